//! Ownership: who may know of a conversation at all. Every operation that names one asks here.

use super::conversation::Conversation;
use super::people::Actor;
use super::refusal::Refusal;

/// The conversation, if the actor may know of it at all.
///
/// # Errors
/// [`Refusal::NoSuchConversation`], the same for one that is not there and for one of somebody else.
pub fn visible<'c>(actor: &Actor, conversation: Option<&'c Conversation>) -> Result<&'c Conversation, Refusal> {
    let conversation = conversation.ok_or(Refusal::NoSuchConversation)?;
    let details = &conversation.details;
    let theirs = details.account == *actor.account()
        && match actor {
            Actor::Consumer { id, .. } => details.consumer == *id,
            Actor::Agent { .. } | Actor::System { .. } => true,
            Actor::Application { app, .. } => details.app.as_ref() == Some(app),
        };
    if theirs { Ok(conversation) } else { Err(Refusal::NoSuchConversation) }
}
