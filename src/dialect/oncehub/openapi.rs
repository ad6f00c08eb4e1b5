//! What the document of the calls says beside the handlers.

use super::error::ErrorBody;
use std::collections::BTreeMap;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "OnceHub-compatible calls",
        description = "Conversations as OnceHub's API v2 has them, with their contacts, users and bookings, and webhooks that tell of them.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(ErrorBody)),
    modifiers(&Schemes),
    security(("api_key" = [])),
    tags(
        (name = "keys", description = "Whether a key is good."),
        (name = "conversations", description = "Conversations, and the bookings that they name."),
        (name = "people", description = "Contacts and users."),
        (name = "webhooks", description = "What is subscribed to."),
    ),
)]
struct About;

/// How callers say who they are.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, api: &mut Document) {
        let key = ApiKeyValue::with_description("API-Key", "A key of the account.");
        api.components.get_or_insert_default().add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(key)));
    }
}

/// The document before its calls.
pub(super) fn about() -> Document {
    About::openapi()
}

/// A set of refusals, by status, each with its reason.
macro_rules! refused {
    ($(#[$doc:meta])* $name:ident { $($status:literal: $why:literal),+ $(,)? }) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(($status, $why)),+].into_iter().map(|(status, why)| {
                    let body = Content::new(Some(Ref::from_schema_name(ErrorBody::name())));
                    (status.to_owned(), RefOr::T(ResponseBuilder::new().description(why).content("application/json", body).build()))
                }).collect()
            }
        }
    };
}

refused! {
    /// Whoever has no key, or uses it too often.
    KeyRefused {
        "401": "The API key is missing, or not valid.",
        "429": "Too many requests of the account or of the address; Retry-After says how long to wait.",
        "503": "The store cannot be read now; try again.",
    }
}

refused! {
    /// How one object is refused.
    OneRefused {
        "400": "A parameter is wrong.",
        "401": "The API key is missing, or not valid.",
        "404": "There is no such object.",
        "429": "Too many requests of the account or of the address; Retry-After says how long to wait.",
        "503": "The store cannot be read or written now; try again.",
    }
}

refused! {
    /// How a list is refused.
    ListRefused {
        "400": "A parameter is wrong.",
        "401": "The API key is missing, or not valid.",
        "429": "Too many requests of the account or of the address; Retry-After says how long to wait.",
        "503": "The store cannot be read now; try again.",
    }
}

refused! {
    /// A key whose agent may not do this.
    Forbidden { "403": "The key is bound to an agent who is no manager." }
}

refused! {
    /// How a subscription is refused.
    ChangeRefused {
        "400": "The body is wrong.",
        "401": "The API key is missing, or not valid.",
        "403": "The key is bound to an agent who is no manager.",
        "409": "Another webhook has the name.",
        "413": "The body is too large.",
        "429": "Too many requests of the account or of the address; Retry-After says how long to wait.",
        "503": "The store cannot be written now; try again.",
    }
}
