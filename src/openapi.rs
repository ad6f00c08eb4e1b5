//! OpenAPI: what the documents of all surfaces have in common.
//!
//! A surface hands its handlers to an [`OpenApiRouter`](utoipa_axum::router::OpenApiRouter), which takes the path and the method of
//! each from the same words as the document does. So there is no route that a document lacks, and none that it invents; which
//! statuses and bodies are answered, the contract test finds out.

use std::collections::BTreeMap;
use std::iter;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{Modify, PartialSchema, ToSchema};
use utoipa_axum::router::UtoipaMethodRouter;

/// A document by its name.
#[derive(Debug, Clone)]
pub struct Document {
    /// What it is called in addresses.
    pub name: &'static str,
    /// What it says.
    pub api: OpenApi,
}

/// What is said in one sentence: why something was not done.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "written by hand in a dozen places; here it is described")]
pub struct Sentence {
    /// What is wrong.
    #[schema(min_length = 1)]
    error: String,
}

/// Adds the scheme `bearer`: a token as `Authorization: Bearer …`.
#[derive(Debug)]
pub struct ByBearer;

impl Modify for ByBearer {
    fn modify(&self, api: &mut OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        api.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Answers by status, whose bodies have all the same schema. It must stand among the components of the document.
#[must_use]
pub fn answers<B: ToSchema>(all: impl IntoIterator<Item = (u16, String)>) -> BTreeMap<String, RefOr<Response>> {
    let body = || Content::new(Some(Ref::from_schema_name(B::name())));
    let answer = |(status, why): (u16, String)| {
        let response = ResponseBuilder::new().description(why).content("application/json", body()).build();
        (status.to_string(), RefOr::T(response))
    };
    all.into_iter().map(answer).collect()
}

/// A set of refusals, to be named among an operation's responses: by status, each with its reason, as a [`Sentence`].
macro_rules! refusals {
    ($(#[$doc:meta])* $name:ident { $($status:literal: $why:literal),+ $(,)? }) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
                $crate::openapi::answers::<$crate::openapi::Sentence>([$(($status, String::from($why))),+])
            }
        }
    };
}
pub(crate) use refusals;

/// Routes that are reached by another address, too: under `other` instead of `prefix`.
pub fn also<S>(routes: UtoipaMethodRouter<S>, prefix: &str, other: &str) -> UtoipaMethodRouter<S> {
    let (schemas, mut paths, router) = routes;
    let word = other.trim_matches('/').split('/').next().unwrap_or_default().to_owned();
    let more: Vec<(String, PathItem)> = paths
        .paths
        .iter()
        .filter_map(|(path, item)| {
            let path = format!("{other}{}", path.strip_prefix(prefix)?);
            let mut item = item.clone();
            // An operation's name is its own.
            operations_mut(&mut item).for_each(|operation| {
                operation.operation_id = operation.operation_id.take().map(|id| format!("{id}_{word}"));
            });
            Some((path, item))
        })
        .collect();
    paths.paths.extend(more);
    (schemas, paths, router)
}

fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, head, patch, .. } = item;
    [get, put, post, delete, head, patch].into_iter().flatten()
}

/// A schema of an object of which more is not said.
#[derive(Debug)]
pub struct AnyObject;

impl PartialSchema for AnyObject {
    fn schema() -> RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new().description(Some("An object; its members are the caller's own.")).into()
    }
}

impl ToSchema for AnyObject {}

/// The operations of a document: path, method and what is said of it.
pub fn operations(api: &OpenApi) -> impl Iterator<Item = (&str, &'static str, &Operation)> {
    api.paths.paths.iter().flat_map(|(path, item)| {
        let all = [
            ("GET", &item.get),
            ("PUT", &item.put),
            ("POST", &item.post),
            ("DELETE", &item.delete),
            ("HEAD", &item.head),
            ("PATCH", &item.patch),
        ];
        all.into_iter().zip(iter::repeat(path.as_str())).filter_map(|((method, operation), path)| Some((path, method, operation.as_ref()?)))
    })
}
