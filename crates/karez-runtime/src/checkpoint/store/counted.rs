//! What the client of an object store sends, counted request by request below its own retries.
//!
//! The client does not tell a request it sends again from a new one. But it sends the requests of one operation one after the other, and none of them is
//! the same as the one before unless it is sent again.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use karez_external::{ClientMeter, ClientOptions};
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector};
use object_store::{BackoffConfig, RetryConfig};

const TOO_MANY_REQUESTS: u16 = 429;

tokio::task_local! {
    /// The newest request of the operation that this task is at.
    static NEWEST: RefCell<String>;
}

/// Everything sent while this is polled belongs to one operation.
pub(super) fn operation<F: Future>(work: F) -> impl Future<Output = F::Output> {
    NEWEST.scope(RefCell::default(), work)
}

/// How a client sends requests again.
pub(super) fn retries(options: &ClientOptions) -> RetryConfig {
    let retry = &options.retry;
    RetryConfig {
        backoff: BackoffConfig { init_backoff: retry.initial_delay.0, max_backoff: retry.max_delay.0, base: 2.0 },
        max_retries: retry.attempts.saturating_sub(1),
        // The attempts are the limit.
        retry_timeout: options.total(),
    }
}

/// Makes clients whose requests are counted.
#[derive(Debug)]
pub(super) struct Counted(pub(super) Arc<ClientMeter>);

impl HttpConnector for Counted {
    fn connect(&self, options: &object_store::ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(CountedClient { client, meter: Arc::clone(&self.0) }))
    }
}

#[derive(Debug)]
struct CountedClient {
    client: HttpClient,
    meter: Arc<ClientMeter>,
}

#[async_trait]
impl HttpService for CountedClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if is_again(&request) {
            self.meter.again();
        }
        let _call = self.meter.begin();
        let answer = self.client.execute(request).await;
        match &answer {
            Ok(answer) if answer.status().as_u16() == TOO_MANY_REQUESTS => self.meter.held_back(),
            Err(e) if e.kind() == HttpErrorKind::Timeout => self.meter.not_in_time(),
            Ok(_) | Err(_) => {}
        }
        answer
    }
}

fn is_again(request: &HttpRequest) -> bool {
    let this = format!("{} {}", request.method(), request.uri());
    NEWEST.try_with(|newest| newest.replace(this.clone()) == this).unwrap_or(false)
}
