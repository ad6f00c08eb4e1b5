//! Values of custom attributes of a conversation.

use super::caller::Caller;
use super::conversation::{CustomAttribute, Named, Which, attributes};
use super::error::{Absent, Any, Change, Fault, Ours};
use super::input::{Body, Repeat, at_most};
use super::{Answer, Data};
use crate::domain::{AttributeValue, FieldChange};
use crate::identity::Account;
use crate::things::{Entity, Input};
use axum::extract::Path;
use axum::http::StatusCode;
use serde::Deserialize;
use std::collections::BTreeMap;
use tieline_protocol::ids::AttributeId;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Longest text of an attribute, in characters.
const LONGEST: usize = 4_000;

/// A text, or of a select its choice: the options on the way to it, or several of those that lie under nothing; or none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(as = AttributeValue)]
#[serde(untagged)]
pub(super) enum Given {
    Text(String),
    Choices(Vec<String>),
    None,
}

/// Values by the ids of their attributes. What is `null` is taken away; what is not named stays as it is.
type Values = BTreeMap<Uuid, Given>;

/// What a value becomes.
fn value(account: &Account, id: Uuid, given: Given) -> Result<(AttributeId, Option<AttributeValue>), Fault> {
    let attributes = &account.things().attributes;
    // Values of a definition that is no more can still be taken away.
    let known = if given == Given::None { attributes.resolve(id.into()) } else { attributes.get(id.into()) };
    let known = known.filter(|kept| kept.thing.entity == Entity::Conversation);
    let kept = known.ok_or_else(|| Fault::missing(format!("there is no attribute {id} of conversations")))?;
    let attribute = &kept.thing;
    let value = match given {
        Given::None => return Ok((kept.id.into(), None)),
        Given::Text(text) => AttributeValue::Text(text),
        Given::Choices(choices) => AttributeValue::Choices(choices),
    };
    if attribute.deactivated || attribute.archived {
        return Err(Fault::bad(format!("attribute {} takes no values now", attribute.identifier)));
    }
    if let AttributeValue::Text(text) = &value {
        at_most(&attribute.identifier, text, LONGEST)?;
    }
    if !attribute.takes(&value) {
        let wanted = match attribute.input {
            Input::Text {} => "a text",
            Input::Select { .. } => "a list of its options",
        };
        return Err(Fault::bad(format!("attribute {} takes {wanted}", attribute.identifier)));
    }
    Ok((kept.id.into(), Some(value)))
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(patch))
}

/// Sets values of custom attributes, or takes them away: all of them or none. Answers with all that the conversation has.
#[utoipa::path(patch, path = "/v1/conversations/{conversationId}/custom-attributes", operation_id = "patchConversationAttributes",
    tag = "attributes", params(Named, Repeat),
    request_body(content = BTreeMap<String, Given>, description = "Values by the ids (UUIDs) of their attributes; `null` takes one away."),
    responses((status = 200, description = "All that it has.", body = Data<Vec<CustomAttribute>>), Any, Absent, Change))]
async fn patch(caller: Caller, Ours(Path(named)): Which, Body { said, key }: Body<Values>) -> Result<Answer<Vec<CustomAttribute>>, Fault> {
    let conversation = caller.conversation(named.conversation_id).await?;
    let account = caller.account();
    if let Some(decided) = caller.replayed(key.as_ref()).await? {
        return Ok(Answer::new(StatusCode::OK, attributes(account, &conversation)).replayed(decided.replayed));
    }
    let values = said.into_iter().map(|(id, given)| value(account, id, given)).collect::<Result<Vec<_>, _>>()?;
    let decided = caller.change(caller.actor().clone(), &conversation, vec![FieldChange::SetAttributes(values)], key).await?;
    let after = caller.conversation(named.conversation_id).await?;
    Ok(Answer::new(StatusCode::OK, attributes(account, &after)).replayed(decided.replayed))
}
