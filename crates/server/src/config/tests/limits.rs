//! Limits and thresholds, and how they fit together.

use super::*;

#[test]
fn thresholds_of_the_transfer() {
    let config = parse(
        r#"
        [files.site]
        root = "/"
        [transfer]
        copy_max_bytes = "64KiB"
        step_bytes = "256KiB"
        turn_bytes = "512KiB"
        look_ahead_bytes = "1MiB"
        [limits]
        file_timeout = "5s"
        "#,
    );
    let thresholds = config.transfer.thresholds;
    assert_eq!(thresholds.copy_max_bytes, 64 << 10);
    assert_eq!(thresholds.step_bytes, 256 << 10);
    assert_eq!(thresholds.turn_bytes, 512 << 10);
    assert_eq!(thresholds.look_ahead_bytes, 1 << 20);
    assert_eq!(config.transfer.source_timeout, Duration::from_secs(5));
    // What holds otherwise is what the library has.
    let config = parse("[files.site]\nroot = \"/\"\n");
    assert_eq!(config.transfer, TransferOptions::default());
}

#[test]
fn thresholds_out_of_range() {
    check_added(
        "[transfer]\ncopy_max_bytes = \"1MiB\"\nlook_ahead_bytes = 0\nstep = 1\n",
        expect![[r#"
            site.toml:4:18: "1MiB" is out of range
              4 | copy_max_bytes = "1MiB"
                |                  ^^^^^^
                = from 0B to 256KiB
            site.toml:5:20: "0" is out of range
              5 | look_ahead_bytes = 0
                |                    ^
                = from 256KiB to 1GiB
            site.toml:6:1: unknown key "step" in [transfer]
              6 | step = 1
                | ^^^^
                = known are copy_max_bytes, step_bytes, turn_bytes, look_ahead_bytes
        "#]],
    );
}

#[test]
fn contradictions() {
    check_added(
        "[limits]\nhead_bytes = 1024\ntarget_bytes = 2048\nconnections = 10\n\
         connections_per_address = 11\ncache_bytes = \"1KiB\"\ncache_file_bytes = \"2KiB\"\n",
        expect![[r#"
            site.toml:5:16: target_bytes is larger than head_bytes, which the target is part of
              5 | target_bytes = 2048
                |                ^^^^
                = head_bytes is 1KiB
            site.toml:7:27: connections_per_address is larger than connections
              7 | connections_per_address = 11
                |                           ^^
                = connections is 10
            site.toml:9:20: the largest cached file doesn't fit a worker's share of the cache
              9 | cache_file_bytes = "2KiB"
                |                    ^^^^^^
                = cache_bytes is 1KiB, for 2 workers
        "#]],
    );
    check_added(
        "[limits]\nreceive_buffers = 3\nring_entries = 8192\ncompletion_entries = 4096\n",
        expect![[r#"
            site.toml:4:19: receive_buffers has to be a power of two
              4 | receive_buffers = 3
                |                   ^
                = such as 4
            site.toml:6:22: completion_entries is smaller than ring_entries
              6 | completion_entries = 4096
                |                      ^^^^
                = at least 8192
        "#]],
    );
    check_added(
        "[listen.main]\naddress = \":80\"\nkeepalive_idle = \"3s\"\n",
        expect![[r#"
        site.toml:5:18: keepalive_idle has no effect while keepalive is off
          5 | keepalive_idle = "3s"
            |                  ^^^^
            = add keepalive = true
    "#]],
    );
}

#[test]
fn a_default_gives_way_to_what_is_written() {
    let config = parse(
        "workers = 4\n[files.site]\nroot = \"/\"\n[limits]\nhead_bytes = \"1KiB\"\n\
         connections = 5\ncache_bytes = \"64KiB\"\nring_entries = 8192\n",
    );
    assert_eq!(config.limits.target_bytes, 1024);
    assert_eq!(config.limits.connections_per_address, 5);
    assert_eq!(config.limits.cache_file_bytes, 16 * 1024);
    assert_eq!(config.limits.completion_entries, 16_384);
}
