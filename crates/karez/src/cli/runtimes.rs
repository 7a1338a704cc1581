//! Tasks run apart from control and I/O (decision 19): two tokio runtimes.

use karez_graph::settings::ThreadPoolSettings;
use tokio::runtime::{Builder, Handle, Runtime};

use super::Failure;

/// The two runtimes of a process that runs one job.
#[derive(Debug)]
pub(crate) struct Runtimes {
    tasks: Runtime,
    control: Runtime,
}

impl Runtimes {
    /// As the job's `resources.threadPool` says.
    pub(crate) fn start(settings: &ThreadPoolSettings) -> Result<Self, Failure> {
        let mut tasks = Builder::new_multi_thread();
        tasks.enable_all().thread_name("karez-task");
        if let Some(threads) = settings.compute.core_size {
            tasks.worker_threads(threads.max(1));
        }
        let mut control = Builder::new_multi_thread();
        control.enable_all().thread_name("karez-control").worker_threads(1);
        if let Some(threads) = settings.io.max_size {
            tasks.max_blocking_threads(threads.max(1));
            control.max_blocking_threads(threads.max(1));
        }
        let build = |mut builder: Builder| builder.build().map_err(|e| Failure::failed(format!("error: cannot start threads: {e}")));
        Ok(Self { tasks: build(tasks)?, control: build(control)? })
    }

    /// Where tasks run.
    pub(crate) fn tasks(&self) -> Handle {
        self.tasks.handle().clone()
    }

    /// Runs a future of control.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.control.block_on(future)
    }

    /// Ends both without waiting for a read that blocks (a pipe nobody writes to).
    pub(crate) fn abandon(self) {
        self.tasks.shutdown_background();
        self.control.shutdown_background();
    }
}
