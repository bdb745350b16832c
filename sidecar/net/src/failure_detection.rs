//! The thread that pings and answers, so that neither bulk data nor a busy core delays it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::accept::accept;
use crate::links::keep_links;
use crate::mesh_state::MeshState;
use crate::plane::Plane;

const PLANE: Plane = Plane::FailureDetection;

/// Pings matter more than all else that the process does; granted only to the privileged.
const NICE: i32 = -10;

/// The running thread.
#[derive(Debug)]
pub(crate) struct Thread {
    handle: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl Thread {
    /// Starts the thread. It ends when the mesh stops.
    ///
    /// # Errors
    /// When there can be no thread or no event loop on it.
    pub(crate) fn start(mesh: Arc<MeshState>, listener: Option<std::net::TcpListener>) -> io::Result<Thread> {
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let (end, ended) = oneshot::channel();
        let handle = std::thread::Builder::new().name("sidegrid-pings".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                tracing::debug!("pings run at ordinary priority: {error}");
            }
            runtime.block_on(run(mesh, listener, &ready));
            // Closes what connections are left before it is reported as ended.
            drop(runtime);
            let _ = end.send(());
        })?;
        is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))?;
        Ok(Thread { handle, ended })
    }

    /// Waits until the thread has ended; the mesh has been stopped before.
    pub(crate) async fn ended(self) {
        // An error means that the thread panicked, which `Critical` has reported.
        let _ = self.ended.await;
        let _ = self.handle.join();
    }
}

async fn run(
    mesh: Arc<MeshState>,
    listener: Option<std::net::TcpListener>,
    ready: &std::sync::mpsc::SyncSender<io::Result<()>>,
) {
    let listener = match listener.map(TcpListener::from_std).transpose() {
        Ok(listener) => listener,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    let tasks = TaskTracker::new();
    let accepting = async {
        match listener {
            Some(listener) => accept(Arc::clone(&mesh), PLANE, listener, tasks.clone()).await,
            None => std::future::pending().await,
        }
    };
    let linking = keep_links(Arc::clone(&mesh), PLANE, tasks.clone());
    mesh.critical("failure-detection", async {
        tokio::select! {
            () = accepting => {}
            () = linking => {}
        }
    })
    .await;
    tasks.close();
    tasks.wait().await;
}
