//! Lines of a configuration as a report shows them: what may be a password is hidden, because reports
//! are kept in logs and sent around.
//!
//! It goes by the look of a line, since what is wrong with one may be that it can't be read. So it hides
//! rather too much. What is known to be in the place of a password isn't shown at all
//! ([`Problem::secret`](super::problem::Problem::secret)).

/// What a key is about whose value isn't shown, in small letters: a part of its name.
const SECRETIVE: [&str; 7] = [
    "pass",
    "pasw",
    "secret",
    "token",
    "credential",
    "authorization",
    "users",
];

/// Keys of ours that sound like it.
const HARMLESS: [&str; 3] = ["password_cache", "users_file", "cors_credentials"];

/// The line with a star for each character that may belong to a password or to the name before it, so
/// that it is as long as it was and a caret below it stays where it belongs.
pub(super) fn masked(line: &str) -> String {
    let mut shown: Vec<char> = line.chars().collect();
    hide_before_hosts(&mut shown);
    hide_values(&mut shown);
    shown.into_iter().collect()
}

/// Of `http://user:password@host`, and of the same without a scheme, what is before the `@`.
fn hide_before_hosts(shown: &mut [char]) {
    let is_end = |character: &char| character.is_whitespace() || matches!(character, '"' | '\'');
    for word in shown.split_mut(is_end) {
        let Some(at) = word.iter().rposition(|character| *character == '@') else {
            continue;
        };
        let scheme = word.windows(3).position(|three| three == [':', '/', '/']);
        let start = scheme.map_or(0, |start| start + 3);
        if start < at && (scheme.is_some() || word[..at].contains(&':')) {
            word[start..at].fill('*');
        }
    }
}

/// Of `password = "..."`, `"token": "..."` and `Authorization: ...`, all that follows on the line, but
/// the marks that tell what it is.
fn hide_values(shown: &mut [char]) {
    let is_of_name = |character: char| character.is_alphanumeric() || "_-".contains(character);
    let mut next = 0;
    while next < shown.len() {
        let length = |from: &[char], of_name: bool| {
            let end = from.iter().position(|it| is_of_name(*it) != of_name);
            end.unwrap_or(from.len())
        };
        let start = next + length(&shown[next..], false);
        next = start + length(&shown[start..], true);
        let name: String = shown[start..next].iter().collect();
        let rest = shown[next..].iter().position(|it| !" \t\"'".contains(*it));
        let is_given = rest.is_some_and(|rest| matches!(shown[next + rest], '=' | ':'));
        if is_given && is_secretive(&name) {
            for character in &mut shown[next..] {
                if !character.is_whitespace() && !"\"'=:[]{},".contains(*character) {
                    *character = '*';
                }
            }
            return;
        }
    }
}

fn is_secretive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !HARMLESS.contains(&&*name) && SECRETIVE.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[track_caller]
    fn check(line: &str, expect: &str) {
        assert_eq!(masked(line), expect);
        assert_eq!(line.chars().count(), expect.chars().count());
    }

    #[test]
    fn credentials_before_a_host() {
        check(
            r#"servers = ["http://me:a/b@c@[::1]:80", "http://b"]"#,
            r#"servers = ["http://********@[::1]:80", "http://b"]"#,
        );
        check("to = 'me:pässword@host'", "to = '***********@host'");
        check("a = http://me@host b", "a = http://**@host b");
    }

    #[test]
    fn values_of_keys_that_sound_secret() {
        check(r#"pasword = "hunter2""#, r#"pasword = "*******""#);
        check(
            r#"  DB_PASSWORD="a b"  # so"#,
            r#"  DB_PASSWORD="* *"  * **"#,
        );
        check(
            r#"{"port": 1, "api-token": "x", "b": 2}"#,
            r#"{"port": 1, "api-token": "*", "*": *}"#,
        );
        check(
            r#"set = ["Authorization: Basic aGk="]"#,
            r#"set = ["Authorization: ***** ***="]"#,
        );
        check(r#"users = { al = "x:y" }"#, r#"users = { ** = "*:*" }"#);
        check("password = unquoted", "password = ********");
    }

    #[test]
    fn everything_else_is_shown() {
        for line in [
            "",
            "=",
            r#"servers = ["http://127.0.0.1:9000", "unix:/run/app.sock"]"#,
            r#"password_cache = "10 parsecs""#,
            r#"users_file = "people.txt""#,
            "cors_credentials = true",
            r#"path = "/tokens/{name}""#,
            r#"text = "@me""#,
            r#"address = "127.0.0.1:80" # mail me@example.org"#,
            "[files.secret]",
        ] {
            check(line, line);
        }
    }
}
