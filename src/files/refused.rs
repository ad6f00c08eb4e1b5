//! Why a file is not taken, not given, or not kept at all.

use crate::config::WrongUrl;
use crate::outbound::{Refusal, Unanswered};
use std::path::PathBuf;
use std::time::Duration;
use tieline_protocol::code::ErrorCode;

/// Why attachments cannot be kept: for the operator to read.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A folder cannot be made, read or cleared.
    #[error("{}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The URL of the store is wrong.
    #[error("files.url: {0}; leave it empty for a local folder, or write s3://bucket?region=eu-central-1")]
    Url(String),
    /// This build knows no S3.
    #[error("files.url: this build cannot use S3; leave it empty for a local folder, or build with --features s3")]
    NoS3,
    /// A type is not known.
    #[error("files.types: {name:?} is not known; choose from {known}")]
    UnknownType {
        /// The type.
        name: String,
        /// Every type there is.
        known: String,
    },
    /// A type is known for what it does to browsers.
    #[error("files.types: {0} is never taken, because a browser may run what is in it; remove it")]
    UnsafeType(String),
    /// Nothing, or too much, would be taken.
    #[error("files.largest: {0} bytes; it must be between 1 byte and 64MiB")]
    Largest(usize),
    /// A URL would expire at once, or too late.
    #[error("files.url_time: {0:?}; it must be between 1 second and 15 minutes")]
    UrlTime(Duration),
    /// No upload would ever be in time.
    #[error("files.stall: it must be longer than nothing")]
    Stall,
}

/// Why a request about a file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The type is not one of those taken.
    #[error("files of type {kind:?} are not taken; send one of {taken}")]
    NotTaken {
        /// The type asked for.
        kind: String,
        /// The types that are taken.
        taken: String,
    },
    /// The file has no bytes.
    #[error("an empty file is not taken; its size must be from 1 to {0} bytes")]
    Empty(u64),
    /// The file is over the limit.
    #[error("this file is too large; its size must be from 1 to {0} bytes")]
    TooLarge(u64),
    /// The account's id cannot stand in a path.
    #[error("this account can have no files: its id must be at most 128 letters, digits, - and _")]
    Account,
    /// There is no signature, or it is not for this.
    #[error("the signature is missing or is not for this method, path and expiry; ask for a new URL and use it unchanged")]
    BadSignature,
    /// The time is over.
    #[error("this URL has expired; ask for a new one")]
    Expired,
    /// There is no such file.
    #[error("there is no such file")]
    NoSuchFile,
    /// A file was put there already.
    #[error("a file was already put here; ask for a new URL for another one")]
    Used,
    /// More bytes come than were declared.
    #[error("the body is longer than the {0} bytes that this URL is for; ask for a URL for the right size")]
    TooLong(u64),
    /// Fewer bytes came than were declared.
    #[error("the body is shorter than the {0} bytes that this URL is for; send the whole file, or ask for a URL for the right size")]
    TooShort(u64),
    /// The `Content-Type` names another type.
    #[error("this URL is for {extension}; send it with Content-Type: {mime}, or without one")]
    WrongHeader {
        /// The extension in the path.
        extension: &'static str,
        /// Its media type.
        mime: &'static str,
    },
    /// The bytes are not of the type.
    #[error("these bytes are no {0}; send a file of the type that the URL was asked for")]
    WrongContent(&'static str),
    /// The body did not come in time.
    #[error("the body did not come in time; try again")]
    Stalled,
    /// The connection broke while the body came.
    #[error("the body broke off; try again")]
    BrokenOff,
    /// The disk is full. Nothing was kept.
    #[error("there is no room for this file now; try again later")]
    DiskFull,
    /// The store did not do it, or did not confirm it; the detail is in the log.
    #[error("files cannot be stored or read now; try again in a while")]
    Unavailable,
}

impl Refused {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Empty(_) | Self::Account | Self::TooShort(_) | Self::BrokenOff => 400,
            Self::BadSignature | Self::Expired => 401,
            Self::NoSuchFile => 404,
            Self::Stalled => 408,
            Self::Used => 409,
            Self::TooLarge(_) | Self::TooLong(_) => 413,
            Self::NotTaken { .. } | Self::WrongHeader { .. } | Self::WrongContent(_) => 415,
            Self::Unavailable => 503,
            Self::DiskFull => 507,
        }
    }

    /// The code for a dialect's error, where a URL is asked for.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotTaken { .. }
            | Self::Empty(_)
            | Self::TooShort(_)
            | Self::WrongHeader { .. }
            | Self::WrongContent(_)
            | Self::Stalled
            | Self::BrokenOff => ErrorCode::InvalidRequest,
            Self::TooLarge(_) | Self::TooLong(_) => ErrorCode::TooLarge,
            Self::Account | Self::Used => ErrorCode::Refused,
            Self::BadSignature | Self::Expired => ErrorCode::NotPermitted,
            Self::NoSuchFile => ErrorCode::NotFound,
            Self::DiskFull => ErrorCode::DiskFull,
            Self::Unavailable => ErrorCode::Busy,
        }
    }
}

/// Why attachments that were given by URL are not fetched. None of it shows a URL but its host: elsewhere in it there may be a
/// password or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchRefused {
    /// It is no URL that could be asked for.
    #[error("the URL of an attachment is not taken: {0}")]
    Url(#[from] WrongUrl),
    /// Something is wrong with where it lies, or with what lies there.
    #[error("the attachment at {host} is not fetched: {fault}")]
    There {
        /// The host that the URL names, or a redirect did.
        host: String,
        /// What.
        fault: FetchFault,
    },
    /// There are too many in one request.
    #[error("at most {0} attachments can be given by URL in one request")]
    TooMany(usize),
    /// Too many were given by one person within a minute.
    #[error("too many attachments; wait {0} s")]
    TooOften(u64),
    /// Others of the account are still being fetched.
    #[error("too many attachments of this account are being fetched; try again")]
    Busy,
    /// It came, and cannot be kept.
    #[error(transparent)]
    Kept(#[from] Refused),
}

/// What is wrong with where an attachment lies, or with what lies there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchFault {
    /// The guard refuses it; no connection was made.
    #[error("{0}")]
    Refused(Refusal),
    /// There is no connection to it, or it ended too early.
    #[error("{0}")]
    Unanswered(Unanswered),
    /// It was not there in time.
    #[error("it did not come in time")]
    TimedOut,
    /// The answer is none with a file.
    #[error("it answered {0}, and must answer 200")]
    Status(u16),
    /// It redirects to what is no URL.
    #[error("it redirects to where nothing can be fetched")]
    NoWay,
    /// It redirects too often.
    #[error("it redirects more than {0} times")]
    Redirects(usize),
    /// It answers with packed bytes.
    #[error("it answered with a Content-Encoding, which was not asked for")]
    Encoded,
    /// There are no bytes.
    #[error("it is empty")]
    Empty,
    /// There are too many bytes.
    #[error("it is too large; its size must be from 1 to {0} bytes")]
    TooLarge(u64),
    /// The bytes are of no type that is taken.
    #[error("its bytes, or its Content-Type, are of no type that is taken; it must be one of {0}")]
    NotTaken(String),
}

impl From<Unanswered> for FetchFault {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Refused(refusal) => Self::Refused(refusal),
            Unanswered::TimedOut => Self::TimedOut,
            why => Self::Unanswered(why),
        }
    }
}

impl FetchRefused {
    /// Its name in metrics and in the log.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Url(_) => "url",
            Self::There { fault, .. } => fault.label(),
            Self::TooMany(_) => "too_many",
            Self::TooOften(_) => "too_often",
            Self::Busy => "busy",
            Self::Kept(_) => "not_kept",
        }
    }

    /// The code for a dialect's error.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::There { fault: FetchFault::TooLarge(_), .. } => ErrorCode::TooLarge,
            Self::There { fault: FetchFault::Unanswered(Unanswered::Client(_)), .. } => ErrorCode::Internal,
            Self::Url(_) | Self::There { .. } | Self::TooMany(_) => ErrorCode::InvalidRequest,
            Self::TooOften(_) => ErrorCode::TooMany,
            Self::Busy => ErrorCode::Busy,
            Self::Kept(refused) => refused.code(),
        }
    }
}

impl FetchFault {
    fn label(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Unanswered(why) => why.label(),
            Self::TimedOut => "timeout",
            Self::Status(_) => "status",
            Self::NoWay | Self::Redirects(_) => "redirects",
            Self::Encoded => "encoded",
            Self::Empty => "empty",
            Self::TooLarge(_) => "too_large",
            Self::NotTaken(_) => "type",
        }
    }
}
