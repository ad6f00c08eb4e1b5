//! Files in an S3-compatible store.
//!
//! An upload comes to the local disk first, so that a slow client holds no memory and no connection to the store, and
//! is then put in one request that fails if the object is there. Clients never see the store: they get the gateway's own
//! URLs, since a bare presigned one limits neither size nor type.

use super::disk::Partial;
use super::path::FilePath;
use super::refused::{FilesError, Refused};
use axum::body::Body;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{Attribute, Attributes, ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig};
use std::time::Duration;
use tokio::sync::Semaphore;
use url::Url;

/// Uploads that are in memory at one time.
const UPLOADS: usize = 8;
/// For the store to go on sending or taking.
const SILENCE: Duration = Duration::from_secs(15);
/// For one whole answer, at the pace of the slowest client.
const ANSWER: Duration = Duration::from_secs(10 * 60);
/// For a request and its repeats. The client waits all the while.
const RETRY_TIME: Duration = Duration::from_secs(20);
/// Repeats of a request.
const RETRIES: usize = 3;

/// The store.
#[derive(Debug)]
pub(super) struct S3 {
    store: AmazonS3,
    prefix: String,
    uploads: Semaphore,
}

/// What the log is told, and what the client should do.
fn failed(what: &'static str, error: &Error) -> Refused {
    match error {
        Error::NotFound { .. } => Refused::NoSuchFile,
        Error::AlreadyExists { .. } => Refused::Used,
        error => {
            tracing::error!(%error, "{what}");
            Refused::Unavailable
        }
    }
}

impl S3 {
    /// Reads the URL. Whether the store answers is not asked.
    pub(super) fn open(url: &str) -> Result<Self, FilesError> {
        let wrong = |reason: String| FilesError::Url(reason);
        // The URL itself is not repeated: its query may hold credentials.
        let url = Url::parse(url).map_err(|error| wrong(format!("it cannot be read ({error})")))?;
        let bucket = url.host_str().filter(|bucket| !bucket.is_empty()).ok_or_else(|| wrong("it names no bucket".to_owned()))?;
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIME, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
        let mut client = ClientOptions::new().with_timeout(ANSWER).with_read_timeout(SILENCE);
        for (name, value) in url.query_pairs() {
            let key = match &*name {
                "region" => AmazonS3ConfigKey::Region,
                "endpoint" => AmazonS3ConfigKey::Endpoint,
                "access_key_id" => AmazonS3ConfigKey::AccessKeyId,
                "secret_access_key" => AmazonS3ConfigKey::SecretAccessKey,
                "session_token" => AmazonS3ConfigKey::Token,
                _ => {
                    let known = "region, endpoint, access_key_id, secret_access_key and session_token";
                    return Err(wrong(format!("its query may have {known}, not {name:?}")));
                }
            };
            if key == AmazonS3ConfigKey::Endpoint {
                client = client.with_allow_http(value.starts_with("http://"));
            }
            builder = builder.with_config(key, value);
        }
        let store = builder.with_client_options(client).build().map_err(|error| wrong(error.to_string()))?;
        Ok(Self { store, prefix: url.path().trim_matches('/').to_owned(), uploads: Semaphore::new(UPLOADS) })
    }

    fn place(&self, path: &FilePath) -> Path {
        Path::from_iter(self.prefix.split('/').chain([path.account().as_str(), path.owner(), &path.name()]).filter(|part| !part.is_empty()))
    }

    pub(super) async fn size(&self, path: &FilePath) -> Result<Option<u64>, Refused> {
        match self.store.head(&self.place(path)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("a file cannot be looked at", &error)),
        }
    }

    pub(super) async fn keep(&self, path: &FilePath, partial: Partial) -> Result<(), Refused> {
        let _turn = self.uploads.acquire().await.map_err(|_| Refused::Unavailable)?;
        let bytes = partial.into_bytes().await?;
        // Should the bucket ever be served by itself, then not as pages.
        let attributes = Attributes::from_iter([
            (Attribute::ContentType, path.kind().mime.to_owned()),
            (Attribute::ContentDisposition, "attachment".to_owned()),
        ]);
        let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
        let put = self.store.put_opts(&self.place(path), bytes.into(), options).await;
        put.map(drop).map_err(|error| failed("an upload cannot be kept", &error))
    }

    pub(super) async fn read(&self, path: &FilePath) -> Result<(u64, Body), Refused> {
        let found = self.store.get(&self.place(path)).await.map_err(|error| failed("a file cannot be read", &error))?;
        Ok((found.meta.size, Body::from_stream(found.into_stream())))
    }

    pub(super) async fn delete(&self, path: &FilePath) -> Result<(), Refused> {
        match self.store.delete(&self.place(path)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("a file cannot be removed", &error)),
        }
    }
}
