//! A proxy with hooks: who asks is authenticated, and gets the server of its tenant.
//!
//! ```sh
//! cargo run -p ringway-server --example tenants -- --listen 127.0.0.1:8000 \
//!     --red 127.0.0.1:9001 --blue 127.0.0.1:9002
//! curl -H 'Authorization: Bearer red-token' http://127.0.0.1:8000/
//! ```
//!
//! Connections, retries, deadlines and what else a proxy does are the server's.

use ringway_server::config::{Config, Problems};
use ringway_server::extensions::{Extensions, Setup, UpstreamId};
use ringway_server::hooks::{Choice, Denial, Hooks, Outcome, PassedRequest, PassedResponse};
use ringway_server::service::{Failure, Reply, Request, StatusCode};
use std::error::Error;

/// The tokens that are known, and whose they are. (A real one would ask somebody, which a hook may
/// wait for.)
const TOKENS: [(&[u8], &str); 2] = [(b"Bearer red-token", "red"), (b"Bearer blue-token", "blue")];

fn main() -> Result<(), Box<dyn Error>> {
    let mut listen = "127.0.0.1:8000".to_owned();
    let (mut red, mut blue) = (None, None);
    let mut io = "auto".to_owned();
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or("a flag without a value")?;
        match flag.as_str() {
            "--listen" => listen = value,
            "--red" => red = Some(value),
            "--blue" => blue = Some(value),
            "--io" => io = value,
            _ => return Err(format!("unknown option: {flag}").into()),
        }
    }
    let red = red.ok_or("--red SERVER is missing")?;
    let blue = blue.ok_or("--blue SERVER is missing")?;
    Ok(extensions().run(configuration(&listen, &io, [&red, &blue])?)?)
}

/// What would stand in a file: a listener, an upstream for each tenant, and a route past the hooks.
pub(crate) fn configuration(
    listen: &str,
    io: &str,
    [red, blue]: [&str; 2],
) -> Result<Config, Problems> {
    Config::from_toml(&format!(
        "io = \"{io}\"\n\
         [listen.main]\naddress = \"{listen}\"\nproxy = \"red\"\n\
         [log]\naccess = \"-\"\naccess_format = '\"$request\" $status $upstream $note'\n\
         [upstream.red]\nservers = [\"{red}\"]\n\
         [upstream.blue]\nservers = [\"{blue}\"]\n\
         [[route]]\nproxy = \"red\"\nhooks = \"tenants\"\n"
    ))
}

/// The hooks under the name that the route has for them.
pub(crate) fn extensions() -> Extensions {
    Extensions::new().hooks("tenants", Tenants::new)
}

struct Tenants {
    red: UpstreamId,
    blue: UpstreamId,
}

impl Tenants {
    fn new(setup: &Setup<'_>) -> Result<Tenants, Failure> {
        Ok(Tenants {
            red: setup.upstream("red")?,
            blue: setup.upstream("blue")?,
        })
    }
}

impl Hooks for Tenants {
    /// Whose request it is.
    type Context = Option<&'static str>;

    fn begin(&self, request: &Request<'_>) -> Self::Context {
        let sent = request.header("Authorization").next()?;
        let known = TOKENS.iter().find(|(token, _)| *token == sent);
        known.map(|(_, tenant)| *tenant)
    }

    async fn request(
        &self,
        tenant: &mut Self::Context,
        request: &mut PassedRequest<'_>,
    ) -> Result<(), Denial> {
        let Some(tenant) = tenant else {
            let reply = Reply::new(StatusCode::UNAUTHORIZED)
                .field("WWW-Authenticate", "Bearer")
                .text("whose is this?\n");
            return Err(reply.into());
        };
        request.remove("Authorization")?;
        request.set("X-Tenant", tenant)?;
        Ok(())
    }

    fn upstream(&self, tenant: &mut Self::Context, _: &Request<'_>) -> Choice {
        match tenant {
            Some("blue") => Choice::of(self.blue),
            _ => Choice::of(self.red),
        }
    }

    fn response(
        &self,
        tenant: &mut Self::Context,
        response: &mut PassedResponse<'_>,
    ) -> Result<(), Failure> {
        response.remove("Server")?;
        response.set("X-Served-For", tenant.unwrap_or_default())?;
        Ok(())
    }

    fn log(&self, tenant: &mut Self::Context, _: &Outcome) -> Option<String> {
        tenant.map(|tenant| format!("tenant={tenant}"))
    }
}
