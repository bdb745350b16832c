//! What this process serves: the cache API and the admin port.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use rustix::process::{Resource, getrlimit, setrlimit};
use sidegrid_config::Settings;
use sidegrid_net::Counters;

use crate::admin::{self, Admin, metrics};
use crate::bound::{Bound, SocketFile};
use crate::grid::Grid;
use crate::http::{Api, Limits, Listeners, Server, body_budget};
use crate::identity;
use crate::memory::MemoryStats;
use crate::spawner::Spawner;

/// Both servers.
#[derive(Debug)]
pub(crate) struct Serving {
    http: Server,
    /// Serves until the spawner stops: whoever watches wants to see the end.
    _admin: Server,
    _file: Option<SocketFile>,
}

impl Serving {
    /// Begins to serve on these sockets. Must be called within a runtime.
    ///
    /// # Errors
    /// When the runtime can't watch them.
    pub(crate) fn start(
        settings: &Settings,
        grid: &Grid,
        net: &Arc<Counters>,
        memory: MemoryStats,
        bound: Bound,
        spawner: &Spawner,
    ) -> io::Result<Serving> {
        raise_file_limit();
        let limits = Limits {
            connections: usize::try_from(settings.http.max_connections).unwrap_or(usize::MAX),
            header_timeout: settings.http.header_timeout,
            idle_timeout: settings.http.idle_timeout,
        };
        let body_budget = body_budget(settings.http.max_value_bytes);
        let api = Api::new(grid.clone(), settings, &identity::name(settings), body_budget);
        let http = Server::start(Listeners::of(bound.http, bound.socket)?, limits, api, spawner);
        let mut registry = Registry::default();
        metrics::register(&mut registry, grid.clone(), Arc::clone(net), http.open_connections(), memory);
        let admin = Admin::new(grid.clone(), registry);
        let admin = Server::start(Listeners::of(bound.admin, None)?, admin::LIMITS, admin, spawner);
        Ok(Serving { http, _admin: admin, _file: bound.file })
    }

    /// Ends the cache API: requests under way have `grace` to finish.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.http.stop(grace).await;
    }
}

/// Lets the process have as many files open as its hard limit allows: the usual soft limit of 1,024 is less than the
/// connections that the settings allow.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // The bound on connections holds without; the system then refuses some of them.
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::info!("the limit on open files stays as it is: {error}");
        }
    }
}
