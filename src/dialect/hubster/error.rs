//! How a call is refused: a status, and one or more errors with the vendor's numbers. Whatever the router and its extractors say by
//! themselves is said in this form, too.

use crate::domain::Refusal;
use crate::gateway;
use crate::store::StoreError;
use crate::throttle::Wait;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tieline_protocol::code::ErrorCode;
use utoipa::ToSchema;

/// Declares the vendor's codes: number, status, meaning.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $status:ident;)+) => {
        /// What is wrong, as the vendor numbers it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Code {
            $($(#[$doc])* $name,)+
        }

        impl Code {
            /// The number behind `ENG`.
            pub(super) fn number(self) -> u32 {
                match self { $(Self::$name => $number,)+ }
            }

            /// The status that goes with it.
            pub(super) fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)+ }
            }
        }

        #[cfg(test)]
        const ALL: &[Code] = &[$(Code::$name),+];
    };
}

codes! {
    /// The gateway is at fault, or cannot answer now.
    System = 100, INTERNAL_SERVER_ERROR;
    /// It is not for this caller.
    Forbidden = 101, FORBIDDEN;
    /// The token is not good.
    Unauthorised = 102, UNAUTHORIZED;
    /// There is nothing at this path.
    NotFound = 105, NOT_FOUND;
    /// Not in the present state.
    NotValid = 107, EXPECTATION_FAILED;
    /// The body did not come in time.
    TimedOut = 108, REQUEST_TIMEOUT;
    /// This may not be done, or not so often.
    NotAllowed = 110, FORBIDDEN;
    /// A parameter is missing.
    ParameterMissing = 200, BAD_REQUEST;
    /// Something has not the form that it must have.
    BadFormat = 201, BAD_REQUEST;
    /// A value is none of those that there are.
    Unsupported = 206, BAD_REQUEST;
    /// A value is too small or too large.
    OutOfRange = 212, BAD_REQUEST;
    /// A conversation request has no body.
    NoRequest = 3_000, BAD_REQUEST;
    /// A property of it is missing.
    PropertyMissing = 3_001, BAD_REQUEST;
    /// One is no GUID.
    PropertyNoGuid = 3_002, BAD_REQUEST;
    /// An activity has no body.
    NoActivity = 5_000, BAD_REQUEST;
    /// A property of it is missing.
    ActivityMissing = 5_001, BAD_REQUEST;
    /// One is not supported.
    ActivityUnsupported = 5_002, BAD_REQUEST;
    /// It has neither a message nor an event.
    Neither = 5_003, BAD_REQUEST;
    /// It has both.
    Both = 5_004, BAD_REQUEST;
    /// A collection is empty.
    EmptyCollection = 5_015, BAD_REQUEST;
    /// A property of it is no GUID.
    ActivityNoGuid = 5_020, BAD_REQUEST;
    /// One is no number.
    NoDecimal = 5_021, BAD_REQUEST;
    /// It says nothing.
    EmptyMessage = 5_023, BAD_REQUEST;
    /// A location is nowhere.
    NoPlace = 5_024, BAD_REQUEST;
    /// There is no such hub.
    NoHub = 5_500, NOT_FOUND;
    /// There is no such integration.
    NoIntegration = 6_000, NOT_FOUND;
    /// There is no such conversation.
    NoConversation = 6_500, NOT_FOUND;
    /// The conversation is over.
    CustomerGone = 6_501, BAD_REQUEST;
    /// The integration is not in use any more.
    Terminated = 6_502, BAD_REQUEST;
    /// The integration is paused.
    Paused = 6_503, BAD_REQUEST;
    /// Commands are not served.
    Command = 9_000, BAD_REQUEST;
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Problem {
    /// The vendor's number.
    code: u32,
    /// What is wrong, in a sentence, with the code's full name.
    #[schema(min_length = 1)]
    description: String,
}

impl Problem {
    /// A code with a sentence.
    pub(super) fn new(code: Code, text: impl std::fmt::Display) -> Self {
        let code = code.number();
        Self { code, description: format!("{text} (code: ENG{code:06})") }
    }
}

/// What is said of a refusal.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Error)]
pub(super) struct ErrorBody {
    /// The HTTP status.
    status: u16,
    #[schema(min_items = 1)]
    errors: Vec<Problem>,
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    status: StatusCode,
    errors: Vec<Problem>,
    wait: Option<Wait>,
}

impl Fault {
    /// A code with a sentence, under the status that goes with it.
    pub(super) fn new(code: Code, text: impl std::fmt::Display) -> Self {
        Self { status: code.status(), errors: vec![Problem::new(code, text)], wait: None }
    }

    /// All that is wrong with a request.
    pub(super) fn all(errors: Vec<Problem>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, errors, wait: None }
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// As it is said on a connection, where there are no statuses: the vendor's client reads the number between the brackets.
    pub(super) fn exception(&self) -> String {
        let said = self.errors.first().map_or_else(String::new, |first| format!("[{}]: {}", first.code, first.description));
        format!("Connection closed with an error. HubException: {said}")
    }

    /// Whether the same may go well a moment later.
    pub(super) fn is_passing(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS || self.status.is_server_error()
    }

    fn under(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The token is not good.
    pub(super) fn unauthorised() -> Self {
        Self::new(Code::Unauthorised, "The token is missing, expired or not valid; get one at /connect/token.")
    }

    /// Too many requests.
    pub(super) fn many(wait: Wait) -> Self {
        let fault = Self::new(Code::NotAllowed, format!("Too many requests; wait {} s.", wait.0)).under(StatusCode::TOO_MANY_REQUESTS);
        Self { wait: Some(wait), ..fault }
    }

    /// The body is too large.
    pub(super) fn large(limit: usize) -> Self {
        Self::new(Code::OutOfRange, format!("The body is larger than {limit} bytes.")).under(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// The store cannot be read or written now.
    pub(super) fn unavailable() -> Self {
        let fault = Self::new(Code::System, "The store cannot be read or written now; try again.").under(StatusCode::SERVICE_UNAVAILABLE);
        Self { wait: Some(Wait(1)), ..fault }
    }

    /// The gateway itself is wrong.
    pub(super) fn internal() -> Self {
        Self::new(Code::System, "Internal error.")
    }

    /// There is no such conversation.
    pub(super) fn no_conversation() -> Self {
        Self::new(Code::NoConversation, "Provided conversation does not exist.")
    }

    /// What others refused, in these words.
    fn of(status: StatusCode, text: &str) -> Self {
        let code = match status {
            StatusCode::UNAUTHORIZED => Code::Unauthorised,
            StatusCode::FORBIDDEN => Code::Forbidden,
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::REQUEST_TIMEOUT => Code::TimedOut,
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::TOO_MANY_REQUESTS => Code::NotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Code::OutOfRange,
            StatusCode::BAD_REQUEST => Code::BadFormat,
            status if status.is_server_error() => Code::System,
            _ => Code::NotValid,
        };
        let said = match status {
            StatusCode::METHOD_NOT_ALLOWED => "This path does not take this method.",
            _ if text.is_empty() => status.canonical_reason().unwrap_or("The request cannot be served."),
            _ => text,
        };
        Self::new(code, said).under(status)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::NoSuchConversation => return Self::no_conversation(),
            Refusal::DialogClosed | Refusal::Anonymised => {
                return Self::new(Code::CustomerGone, "The conversation is over; establish it again.");
            }
            Refusal::NoSuchDialog | Refusal::NobodyThere(_) => Code::NotFound,
            Refusal::NotAParticipant | Refusal::NotPermitted(_) => Code::NotAllowed,
            Refusal::NotNow(_) | Refusal::Taken | Refusal::Duplicate(_) => Code::NotValid,
            Refusal::Invalid(_) => Code::Unsupported,
        };
        Self::new(code, refusal)
    }
}

impl From<gateway::Error> for Fault {
    fn from(error: gateway::Error) -> Self {
        if let gateway::Error::Store(StoreError::Refused(_, refusal)) = error {
            return refusal.into();
        }
        match error.code() {
            ErrorCode::TooMany => Self::many(Wait(1)),
            ErrorCode::Busy | ErrorCode::Unknown | ErrorCode::DiskFull => Self::unavailable(),
            ErrorCode::Internal => Self::internal(),
            code => match StatusCode::from_u16(code.status()) {
                Ok(status) if status.is_client_error() => Self::of(status, &error.to_string()),
                _ => Self::unavailable(),
            },
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let Self { status, errors, wait } = self;
        let mut response = (status, Json(ErrorBody { status: status.as_u16(), errors })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        match wait {
            Some(wait) => wait.say(response),
            None => response,
        }
    }
}

/// Longest text of the router's own that is repeated.
const LONGEST: usize = 4 * 1024;

/// An error in this form, whoever made it.
pub(super) async fn in_our_words(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !(status.is_client_error() || status.is_server_error()) || kind.starts_with("application/json") {
        return response;
    }
    let kept: Vec<_> = [header::ALLOW, header::RETRY_AFTER, header::CONNECTION]
        .into_iter()
        .filter_map(|name| Some((name.clone(), response.headers().get(name)?.clone())))
        .collect();
    let text = axum::body::to_bytes(response.into_body(), LONGEST).await.unwrap_or_default();
    let mut said = Fault::of(status, &String::from_utf8_lossy(&text)).into_response();
    said.headers_mut().extend(kept);
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    async fn said(response: Response) -> (u16, Value) {
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn each_code_is_said_with_its_status_its_number_and_its_full_name() {
        for code in ALL {
            let (status, body) = said(Fault::new(*code, "It is so.").into_response()).await;
            let name = format!("It is so. (code: ENG{:06})", code.number());
            let whole = json!({"status": status, "errors": [{"code": code.number(), "description": name}]});
            assert_eq!((status, body), (code.status().as_u16(), whole));
        }
        let missing = |name| Problem::new(Code::PropertyMissing, format!("Property '{name}' is required."));
        let (status, body) = said(Fault::all(vec![missing("binding"), missing("channelType")]).into_response()).await;
        assert_eq!((status, body["errors"].as_array().unwrap().len()), (400, 2));
        assert_eq!(body["errors"][0]["description"], "Property 'binding' is required. (code: ENG003001)");
    }

    #[tokio::test]
    async fn what_goes_wrong_inside_is_told_by_the_status_that_fits() {
        let fault = |code| gateway::Error::fault(code, "why");
        for (error, status, number) in [
            (fault(ErrorCode::Internal), 500, 100),
            (fault(ErrorCode::Busy), 503, 100),
            (fault(ErrorCode::DiskFull), 503, 100),
            (gateway::Error::Unreadable, 503, 100),
            (gateway::Error::Store(StoreError::Unknown), 503, 100),
            (fault(ErrorCode::TooMany), 429, 110),
            (Refusal::NoSuchConversation.into(), 404, 6_500),
            (Refusal::DialogClosed.into(), 400, 6_501),
            (Refusal::Anonymised.into(), 400, 6_501),
            (Refusal::NotAParticipant.into(), 403, 110),
            (Refusal::Taken.into(), 417, 107),
            (Refusal::Invalid("x".into()).into(), 400, 206),
        ] {
            let response = Fault::from(error.clone()).into_response();
            let waits = response.headers().contains_key(header::RETRY_AFTER);
            let (told, body) = said(response).await;
            assert_eq!((told, &body["status"], &body["errors"][0]["code"]), (status, &json!(status), &json!(number)), "{error:?}");
            assert_eq!(waits, [429, 503].contains(&status), "{error:?}");
        }
    }

    #[tokio::test]
    async fn what_others_say_is_said_in_this_form() {
        for (status, number) in [(404, 105), (405, 110), (408, 108), (413, 212), (415, 107), (500, 100), (503, 100)] {
            let status = StatusCode::from_u16(status).unwrap();
            let (told, body) = said(in_our_words((status, "because").into_response()).await).await;
            assert_eq!((told, &body["errors"][0]["code"]), (status.as_u16(), &json!(number)));
        }
        let (told, body) = said(in_our_words(StatusCode::IM_A_TEAPOT.into_response()).await).await;
        assert_eq!((told, body["errors"][0]["description"].as_str().unwrap()), (418, "I'm a teapot (code: ENG000107)"));
    }
}
