//! What the document of the calls says beside the handlers.

use super::error::{ErrorBody, Problem};
use super::token::TokenError;
use crate::openapi::{ByBearer, answers};
use std::collections::BTreeMap;
use utoipa::openapi::{OpenApi as Document, RefOr, Response};
use utoipa::{IntoResponses, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Hubster-compatible calls",
        description = "Hubster's Conversations API on this gateway's conversations: they are established by a binding, and written and read as activities.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(ErrorBody, Problem, TokenError)),
    modifiers(&ByBearer),
    security(("bearer" = [])),
    tags(
        (name = "tokens", description = "Tokens for programs, and for visitors of web pages."),
        (name = "conversations", description = "Conversations: established, and looked up."),
        (name = "activities", description = "What is said in them."),
        (name = "events", description = "The events hub, which tells of it as it happens."),
    ),
)]
struct About;

/// The document before its calls.
pub(super) fn about() -> Document {
    About::openapi()
}

/// Sets of refusals, each with those that every call has.
macro_rules! refused {
    ($($(#[$doc:meta])* $name:ident { $($status:literal: $why:literal),* $(,)? })+) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    let all = [
                        (429, "Too many requests; Retry-After says how long to wait. Code 110."),
                        (500, "A fault of the gateway. Code 100."),
                        (503, "The store cannot be read or written now; Retry-After says how long to wait. Code 100."),
                        $(($status, $why)),*
                    ];
                    answers::<ErrorBody>(all.map(|(status, why)| (status, why.to_owned())))
                }
            }
        )+
    };
}

refused! {
    /// How who establishes a conversation is refused.
    EstablishRefused {
        400: "Properties are missing or wrong, each with an error of its own; or the integration is paused or terminated.",
        401: "The token is missing, expired or not valid. Code 102.",
        403: "A visitor's token on another integration, a key that may not speak for customers, or a customer that is revoked.",
        404: "There is no such integration, or its hub is gone.",
        408: "The body did not come in time. Code 108.",
        413: "The body is too large. Code 212.",
        417: "It is not possible in the present state. Code 107.",
    }
    /// How who looks something up is refused.
    OneRefused {
        401: "The token is missing, expired or not valid. Code 102.",
        403: "A visitor's token, and not its own. Code 101.",
        404: "There is no such conversation or hub.",
        408: "A body that was announced did not come in time. Code 108.",
        413: "The body is too large. Code 212.",
    }
    /// How who reads activities is refused.
    ActivitiesRefused {
        400: "A parameter is missing or wrong.",
        401: "The token is missing, expired or not valid. Code 102.",
        403: "A visitor's token, and not its own. Code 101.",
        404: "There is no such conversation.",
        408: "A body that was announced did not come in time. Code 108.",
        413: "The body is too large. Code 212.",
    }
    /// How who sends is refused.
    SendRefused {
        400: "The activity is wrong, each property with an error of its own; or the conversation is over, or the integration paused or terminated.",
        401: "The token is missing, expired or not valid. Code 102.",
        403: "A visitor's token, and not its own; a key that may not write as that agent or for customers; or a customer that is revoked.",
        404: "There is no such conversation or integration.",
        408: "The body did not come in time. Code 108.",
        413: "The body is too large. Code 212.",
        417: "It is not possible in the present state. Code 107.",
    }
    /// How who would connect to the events hub is refused.
    NegotiateRefused {
        400: "A parameter is missing or wrong; or the integration is paused or terminated.",
        401: "The token is missing, expired or not valid. Code 102.",
        403: "A visitor's token, and not its own; a customer's integration without its conversation; or an agent's that is another's than the key's.",
        404: "There is no such integration, or no such conversation of it.",
    }
    /// How a visitor gets no token.
    VisitorRefused {
        400: "The integration is paused or terminated.",
        403: "The page's origin is none that may use the integration.",
        404: "There is no such web chat.",
    }
}
