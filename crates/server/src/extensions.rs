//! What a program adds to the server: services and hooks under the names that its configuration
//! calls them by.
//!
//! Of each there is one for every worker, made on the worker by a function that is given here. Those
//! that are built in aren't boxed; these are.

use crate::boot::{self, ServerError};
use crate::config::Config;
use crate::config::value::nearest;
use crate::hooks::{Begin, Hooks, HooksOf};
use crate::service::{Completed, Exchange, Failure, Look, Request, Service};
use crate::worker::{self, Served};
use ringway_runtime::Runtime;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

/// The services and hooks of a program.
///
/// ```
/// use ringway_server::config::Config;
/// use ringway_server::extensions::Extensions;
/// use ringway_server::service::{Completed, Exchange, Failure, Look, Reply, Request, Service, StatusCode};
///
/// struct Hello;
///
/// impl Service for Hello {
///     type Kept = std::convert::Infallible;
///
///     fn look(&self, _: &Request<'_>) -> Look<Self::Kept> {
///         Reply::new(StatusCode::OK).text("hello\n").into()
///     }
///
///     async fn answer<'e>(&self, kept: Self::Kept, _: Exchange<'e>) -> Result<Completed<'e>, Failure> {
///         match kept {}
///     }
/// }
///
/// let config = Config::from_toml(
///     "[listen.main]\naddress = \"127.0.0.1:0\"\n[[route]]\npath = \"/hello\"\nservice = \"hello\"",
/// )?;
/// let extensions = Extensions::new().service("hello", |_| Ok(Hello));
/// extensions.check(&config)?;
/// // extensions.run(config)
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Extensions {
    services: Vec<Named<Rc<dyn OwnService>>>,
    hooks: Vec<Named<Rc<dyn Begin>>>,
}

/// Something that can be made on a worker, and what it is called.
struct Named<T> {
    name: String,
    make: Arc<Make<T>>,
}

/// Makes one on a worker.
type Make<T> = dyn Fn(&Setup<'_>) -> Result<T, Failure> + Send + Sync;

impl<T> Clone for Named<T> {
    fn clone(&self) -> Named<T> {
        Named {
            name: self.name.clone(),
            make: Arc::clone(&self.make),
        }
    }
}

/// What there is to know where a service or hooks are made: on their worker, before it accepts
/// anything.
#[derive(Debug)]
pub struct Setup<'s> {
    config: &'s Config,
    worker: usize,
}

/// An upstream of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamId(pub(crate) usize);

/// There is no upstream of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownUpstream(String);

impl fmt::Display for UnknownUpstream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "there is no [upstream.{}]", self.0)
    }
}

impl std::error::Error for UnknownUpstream {}

impl Setup<'_> {
    /// The whole configuration.
    pub fn config(&self) -> &Config {
        self.config
    }

    /// Which worker it is, from 0.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The upstream of the table `[upstream.NAME]`.
    ///
    /// # Errors
    /// When there is none.
    pub fn upstream(&self, name: &str) -> Result<UpstreamId, UnknownUpstream> {
        let mut upstreams = self.config.upstreams.iter();
        let found = upstreams.position(|upstream| upstream.name == name);
        found
            .map(UpstreamId)
            .ok_or_else(|| UnknownUpstream(name.to_owned()))
    }
}

impl Extensions {
    /// None.
    pub fn new() -> Extensions {
        Extensions::default()
    }

    /// Adds a service for routes with `service = "NAME"`. `make` is called on each worker, and again
    /// on one that is started anew; where it fails, the worker can't run.
    #[must_use]
    pub fn service<S: Service + 'static>(
        mut self,
        name: &str,
        make: impl Fn(&Setup<'_>) -> Result<S, Failure> + Send + Sync + 'static,
    ) -> Extensions {
        self.services.push(Named {
            name: name.to_owned(),
            make: Arc::new(move |setup| Ok(Rc::new(Boxed(Rc::new(make(setup)?))))),
        });
        self
    }

    /// Adds hooks for routes with `hooks = "NAME"`; the same holds for `make`.
    #[must_use]
    pub fn hooks<H: Hooks + 'static>(
        mut self,
        name: &str,
        make: impl Fn(&Setup<'_>) -> Result<H, Failure> + Send + Sync + 'static,
    ) -> Extensions {
        self.hooks.push(Named {
            name: name.to_owned(),
            make: Arc::new(move |setup| Ok(Rc::new(HooksOf(Rc::new(make(setup)?))))),
        });
        self
    }

    /// Whether everything is there that a configuration asks for.
    ///
    /// # Errors
    /// [`ServerError::Extension`]: a name that is missing, or there twice.
    pub fn check(&self, config: &Config) -> Result<(), ServerError> {
        check_names("service", &self.services, &config.services)?;
        check_names("hooks", &self.hooks, &config.hooks)
    }

    /// As [`run`](crate::run), with these.
    ///
    /// # Errors
    /// The same, and those of [`Extensions::check`].
    pub fn run(self, config: Config) -> Result<(), ServerError> {
        self.check(&config)?;
        boot::run_with(config, self)
    }

    /// As [`serve_on`](crate::serve_on), with these.
    ///
    /// # Errors
    /// The same, and those of [`Extensions::check`].
    pub fn serve_on(&self, runtime: &Runtime, config: Config) -> io::Result<Served> {
        let served = self.serve_on_each([runtime], config)?;
        Ok(served.into_iter().next().expect("one for each runtime"))
    }

    /// The same on several runtimes of the caller's, as the workers of one server: they share the
    /// limits and the connections to servers. Each listens for itself.
    ///
    /// # Errors
    /// The same.
    pub fn serve_on_each<'r>(
        &self,
        runtimes: impl IntoIterator<Item = &'r Runtime, IntoIter: ExactSizeIterator>,
        config: Config,
    ) -> io::Result<Vec<Served>> {
        self.check(&config).map_err(io::Error::other)?;
        worker::serve_on_each(runtimes.into_iter(), config, self)
    }

    /// Makes what `config` asks for, in its order, on this worker.
    pub(crate) fn make(&self, config: &Config, worker: usize) -> io::Result<Own> {
        let setup = Setup { config, worker };
        Ok(Own {
            services: make_all("service", &self.services, &config.services, &setup)?,
            hooks: make_all("hooks", &self.hooks, &config.hooks, &setup)?,
        })
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services = self.services.iter().map(|named| &*named.name);
        let hooks = self.hooks.iter().map(|named| &*named.name);
        out.debug_struct("Extensions")
            .field("services", &services.collect::<Vec<_>>())
            .field("hooks", &hooks.collect::<Vec<_>>())
            .finish()
    }
}

fn check_names<T>(kind: &str, all: &[Named<T>], wanted: &[String]) -> Result<(), ServerError> {
    let names = || all.iter().map(|named| &*named.name);
    for (index, name) in names().enumerate() {
        if names().take(index).any(|before| before == name) {
            let message = format!("this program has {kind} {name:?} twice");
            return Err(ServerError::Extension(message));
        }
    }
    let Some(missing) = wanted
        .iter()
        .find(|name| !names().any(|known| known == *name))
    else {
        return Ok(());
    };
    let hint = match (nearest(missing, names()), all) {
        (Some(near), _) => format!("did you mean {near:?}?"),
        (None, []) => "it has none: that takes a program of one's own, built on its library".into(),
        (None, _) => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
    };
    let message = format!("a route has {kind} = {missing:?}, which this program lacks; {hint}");
    Err(ServerError::Extension(message))
}

fn make_all<T>(
    kind: &str,
    all: &[Named<T>],
    wanted: &[String],
    setup: &Setup<'_>,
) -> io::Result<Vec<T>> {
    let make = |name: &String| {
        let named = all.iter().find(|named| named.name == *name);
        let named =
            named.ok_or_else(|| io::Error::other(format!("there is no {kind} {name:?}")))?;
        let made = (named.make)(setup);
        made.map_err(|error| io::Error::other(format!("{kind} {name:?} can't be made: {error}")))
    };
    wanted.iter().map(make).collect()
}

/// What a worker has of a program's own, in the order of the configuration.
pub(crate) struct Own {
    pub(crate) services: Vec<Rc<dyn OwnService>>,
    pub(crate) hooks: Vec<Rc<dyn Begin>>,
}

/// A program's own [`Service`], whatever it keeps.
pub(crate) trait OwnService {
    fn look(&self, request: &Request<'_>) -> Look<Box<dyn Pending>>;
}

/// A request that such a service has kept.
pub(crate) trait Pending {
    fn answer<'e>(self: Box<Self>, exchange: Exchange<'e>) -> Answering<'e>;
}

/// An answer under way.
type Answering<'e> = Pin<Box<dyn Future<Output = Result<Completed<'e>, Failure>> + 'e>>;

struct Boxed<S>(Rc<S>);

struct Kept<S: Service> {
    service: Rc<S>,
    kept: S::Kept,
}

impl<S: Service + 'static> OwnService for Boxed<S> {
    fn look(&self, request: &Request<'_>) -> Look<Box<dyn Pending>> {
        match self.0.look(request) {
            Look::Answer(ready) => Look::Answer(ready),
            Look::Later(kept) => Look::Later(Box::new(Kept {
                service: Rc::clone(&self.0),
                kept,
            })),
        }
    }
}

impl<S: Service + 'static> Pending for Kept<S> {
    fn answer<'e>(self: Box<Self>, exchange: Exchange<'e>) -> Answering<'e> {
        Box::pin(async move {
            let Kept { service, kept } = *self;
            service.answer(kept, exchange).await
        })
    }
}
