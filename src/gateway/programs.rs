//! What programs ask that act for an account, as helpdesk tools do: conversations by their numbers and in lists, all that was said,
//! agents' notes, what happened, and who the consumers are.

use super::{Error, Gateway, Request};
use crate::domain::{
    Actor, Change, Command, Consumer, Conversation, ConversationFilter, Entry, Message, Millis, OpenState, Participant, Person, Refusal,
    Sight, visible,
};
use crate::identity::fingerprint;
use crate::store::{ConsumersBy, Erasure, Feed, Range};
use serde_json::json;
use serde_json::value::to_raw_value;
use std::collections::HashSet;
use std::sync::Arc;
use tieline_protocol::event::{EventClass, read_numbers};
use tieline_protocol::ids::{ClientId, ConsumerId, ConversationId};

/// Events of one read.
const SOME: usize = 1_000;

/// A note of an agent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentNote {
    /// Its id: a UUID.
    pub id: String,
    /// Whose it is.
    pub author: Person,
    /// When it was written.
    pub at: Millis,
    /// The text; empty, if it was erased.
    pub text: String,
}

/// A part of what was said.
#[derive(Debug, Clone)]
pub struct Part {
    /// The events, oldest first.
    pub said: Vec<Arc<Sight>>,
    /// The number behind the last that was looked at.
    pub next: u64,
    /// When that last was written.
    pub at: Millis,
}

/// A UUID that is always the same for the same parts, and says nothing of them.
#[must_use]
pub fn derived_uuid(parts: &[&str]) -> uuid::Uuid {
    let hash = fingerprint(parts);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

impl Gateway {
    /// A conversation, if the actor may know of it.
    ///
    /// # Errors
    /// [`Refusal::NoSuchConversation`]; [`Error::Unreadable`].
    pub async fn conversation(&self, actor: &Actor, id: &ConversationId) -> Result<Conversation, Error> {
        let found = self.store().conversation(id.clone()).await.map_err(|_| Error::Unreadable)?;
        Ok(visible(actor, found.as_ref())?.clone())
    }

    /// The conversation of a number within the actor's account, if the actor may know of it.
    ///
    /// # Errors
    /// As [`Gateway::conversation`].
    pub async fn numbered(&self, actor: &Actor, number: i64) -> Result<Conversation, Error> {
        let found = self.store().numbered(actor.account().clone(), number).await.map_err(|_| Error::Unreadable)?;
        Ok(visible(actor, found.as_ref())?.clone())
    }

    /// Conversations of the actor's account whose numbers lie between two, neither included: the smallest of them, or the largest,
    /// beginning with the smallest, or the largest. The account's numbers begin at 1.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`], if the actor is not on the brand's side; [`Error::Unreadable`].
    pub async fn by_number(&self, actor: &Actor, between: (i64, i64), is_up: bool, limit: usize) -> Result<Vec<Conversation>, Error> {
        brand_only(actor)?;
        self.store().by_number(actor.account().clone(), between, is_up, limit).await.map_err(|_| Error::Unreadable)
    }

    /// Conversations of the actor's account, those first in which somebody wrote last, or that were opened last: some of those of
    /// before a time, without as many as are to be passed over.
    ///
    /// # Errors
    /// As [`Gateway::by_number`].
    pub async fn by_word(&self, actor: &Actor, before: Option<Millis>, offset: usize, limit: usize) -> Result<Vec<Conversation>, Error> {
        brand_only(actor)?;
        self.store().by_word(actor.account().clone(), before, offset, limit).await.map_err(|_| Error::Unreadable)
    }

    /// What is known of a conversation's consumer, if the actor may know that: a manager, or an agent who takes part.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub async fn consumer_of(&self, actor: &Actor, conversation: &Conversation) -> Result<Option<Consumer>, Error> {
        let details = &conversation.details;
        let takes_part = actor.person().is_some_and(|person| person.is_agent() && details.participant(&person).is_some());
        if !actor.is_manager() && !takes_part {
            return Ok(None);
        }
        self.store().consumer(details.account.clone(), details.consumer.clone()).await.map_err(|_| Error::Unreadable)
    }

    /// What was said in a conversation's MAIN dialog after a time, oldest first: at least so many events that count, if there are as
    /// many. Receipts are among it, but far behind only those of the newest thousand events.
    ///
    /// # Errors
    /// As [`Gateway::conversation`].
    pub async fn messages_since(
        &self,
        actor: &Actor,
        conversation: &Conversation,
        since: Millis,
        (limit, counts): (usize, fn(&Message) -> bool),
    ) -> Result<Vec<Arc<Sight>>, Error> {
        let (next, id) = (visible(actor, Some(conversation))?.next[0], &conversation.details.id);
        let (mut all, mut from) = (Vec::new(), self.first_after(conversation, since).await?);
        let mut counted = 0;
        while from < next && counted < limit {
            let some = self.main_events(id, Range::Forward { from, to: next - 1, limit: SOME }).await?;
            let Some(last) = some.last().and_then(|sight| sight.message()) else { break };
            from = last.sequence + 1;
            counted += some.iter().filter_map(|sight| sight.message()).filter(|message| counts(message)).count();
            all.extend(some);
        }
        if from < next {
            let newest = self.main_events(id, Range::Backward { to: next - 1, limit: SOME }).await?;
            all.extend(newest.into_iter().filter(|sight| sight.message().is_some_and(|message| message.sequence >= from)));
        }
        all.retain(|sight| may_see(actor, sight));
        Ok(all)
    }

    /// The last of what was said in a conversation's MAIN dialog, receipts included, oldest first: at least so many events that
    /// count, if there are as many.
    ///
    /// # Errors
    /// As [`Gateway::conversation`].
    pub async fn newest_messages(
        &self,
        actor: &Actor,
        conversation: &Conversation,
        (limit, counts): (usize, fn(&Message) -> bool),
    ) -> Result<Vec<Arc<Sight>>, Error> {
        let mut to = visible(actor, Some(conversation))?.next[0].checked_sub(1);
        let (mut chunks, mut counted) = (Vec::new(), 0);
        while let Some(last) = to.filter(|_| counted < limit) {
            let some = self.main_events(&conversation.details.id, Range::Backward { to: last, limit: SOME }).await?;
            let Some(first) = some.first().and_then(|sight| sight.message()) else { break };
            to = first.sequence.checked_sub(1);
            counted += some.iter().filter_map(|sight| sight.message()).filter(|message| counts(message)).count();
            chunks.push(some);
        }
        let all = chunks.into_iter().rev().flatten();
        Ok(all.filter(|sight| may_see(actor, sight)).collect())
    }

    /// The same among those of one consumer.
    ///
    /// # Errors
    /// As [`Gateway::by_number`].
    pub async fn of_consumer(
        &self,
        actor: &Actor,
        consumer: &ConsumerId,
        between: (i64, i64),
        is_up: bool,
        limit: usize,
    ) -> Result<Vec<Conversation>, Error> {
        brand_only(actor)?;
        let found = self.store().of_consumer(actor.account().clone(), consumer.clone(), between, is_up, limit).await;
        found.map_err(|_| Error::Unreadable)
    }

    /// All that was said in a conversation's MAIN dialog, receipts included, oldest first.
    ///
    /// # Errors
    /// As [`Gateway::conversation`].
    pub async fn messages(&self, actor: &Actor, conversation: &ConversationId) -> Result<Vec<Arc<Sight>>, Error> {
        let next = self.conversation(actor, conversation).await?.next[0];
        let (mut all, mut from) = (Vec::new(), 0);
        while from < next {
            let range = Range::Forward { from, to: next - 1, limit: SOME };
            let some = self.store().events(conversation.main_dialog(), range).await.map_err(|_| Error::Unreadable)?;
            let Some(last) = some.last().and_then(|sight| sight.message()) else { break };
            from = last.sequence + 1;
            all.extend(some);
        }
        all.retain(|sight| may_see(actor, sight));
        Ok(all)
    }

    /// Marks as read by the actor what others said in a conversation's MAIN dialog, up to an event or to the last: of the newest
    /// thousand events. Nothing happens if it has read all of them.
    ///
    /// # Errors
    /// As [`Gateway::conversation`]; what the rules refuse.
    pub async fn mark_read(self: &Arc<Self>, actor: &Actor, conversation: &ConversationId, up_to: Option<u64>) -> Result<(), Error> {
        let known = self.conversation(actor, conversation).await?;
        let person = actor.person().ok_or(Refusal::NotAParticipant)?;
        known.details.participant(&person).and_then(Participant::active_role).ok_or(Refusal::NotAParticipant)?;
        let Some(newest) = known.next[0].checked_sub(1) else { return Ok(()) };
        let dialog = conversation.main_dialog();
        let range = Range::Backward { to: newest, limit: SOME };
        let events = self.store().events(dialog.clone(), range).await.map_err(|_| Error::Unreadable)?;
        let messages = || events.iter().filter_map(|sight| sight.message());
        let own = messages().filter(|message| message.class == EventClass::Receipt && message.from == person);
        let read: HashSet<u64> = own.flat_map(|receipt| read_numbers(&receipt.event)).collect();
        let is_unread = |message: &&Message| {
            let is_said = message.class != EventClass::Receipt && message.from != person;
            is_said && up_to.is_none_or(|last| message.sequence <= last) && !read.contains(&message.sequence)
        };
        let receipt = |whisper: bool| {
            let unread = messages().filter(|message| message.whisper == whisper).filter(is_unread);
            let unread: Vec<u64> = unread.map(|message| message.sequence).collect();
            let event = || to_raw_value(&json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": unread}));
            (!unread.is_empty()).then(|| Command::Publish {
                conversation: conversation.clone(),
                dialog: dialog.clone(),
                class: EventClass::Receipt,
                // What was just made of JSON values is JSON.
                event: event().unwrap_or_default(),
                metadata: None,
                encoded_metadata: None,
                client: None,
                file: None,
                whisper,
            })
        };
        // Any of them clears what is unread. Of whispers alone no more than a whisper may tell.
        let Some(receipt) = receipt(false).or_else(|| receipt(true)) else { return Ok(()) };
        let request = Request { actor: actor.clone(), commands: vec![receipt], key: None, resend: None };
        self.submit(request).await.map(drop)
    }

    /// One event of a conversation's MAIN dialog.
    ///
    /// # Errors
    /// As [`Gateway::conversation`].
    pub async fn message(&self, actor: &Actor, conversation: &ConversationId, sequence: u64) -> Result<Option<Arc<Sight>>, Error> {
        self.conversation(actor, conversation).await?;
        let range = Range::Forward { from: sequence, to: sequence, limit: 1 };
        let found = self.store().events(conversation.main_dialog(), range).await.map_err(|_| Error::Unreadable)?;
        let may = |sight: &Arc<Sight>| sight.message().is_some_and(|found| !found.whisper) || brand_only(actor).is_ok();
        Ok(found.into_iter().next().filter(may))
    }

    /// The last events of a conversation's MAIN dialog that everybody may see, receipts included, oldest first.
    ///
    /// # Errors
    /// As [`Gateway::conversation`].
    pub async fn last_messages(&self, actor: &Actor, conversation: &ConversationId, limit: usize) -> Result<Vec<Arc<Sight>>, Error> {
        let next = self.conversation(actor, conversation).await?.next[0];
        let Some(to) = next.checked_sub(1) else { return Ok(Vec::new()) };
        let mut last = self.main_events(conversation, Range::Backward { to, limit }).await?;
        last.retain(|sight| sight.message().is_some_and(|found| !found.whisper));
        Ok(last)
    }

    /// The number of the first event of a conversation's MAIN dialog that is later than a time; of the next one, if none is. Times
    /// never go back, so it takes few reads however many events there are.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub async fn first_after(&self, conversation: &Conversation, time: Millis) -> Result<u64, Error> {
        let (mut from, mut to) = (0, conversation.next[0]);
        if conversation.last_at <= time {
            return Ok(to);
        }
        while from < to {
            let middle = from + (to - from) / 2;
            let found = self.main_events(&conversation.details.id, Range::Forward { from: middle, to: middle, limit: 1 }).await?;
            match found.first() {
                Some(sight) if sight.at <= time => from = middle + 1,
                _ => to = middle,
            }
        }
        Ok(from)
    }

    /// What was said in a conversation's MAIN dialog from a number on, as far as everybody may see it, and without receipts: a part of
    /// it, oldest first, and the number behind that. Nothing at the end.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub async fn said_from(&self, conversation: &Conversation, from: u64) -> Result<Option<Part>, Error> {
        let next = conversation.next[0];
        if from >= next {
            return Ok(None);
        }
        let mut said = self.main_events(&conversation.details.id, Range::Forward { from, to: next - 1, limit: SOME }).await?;
        let Some((next, at)) = said.last().and_then(|sight| Some((sight.message()?.sequence + 1, sight.at))) else { return Ok(None) };
        said.retain(|sight| sight.message().is_some_and(|found| !found.whisper && found.class != EventClass::Receipt));
        Ok(Some(Part { said, next, at }))
    }

    async fn main_events(&self, conversation: &ConversationId, range: Range) -> Result<Vec<Arc<Sight>>, Error> {
        self.store().events(conversation.main_dialog(), range).await.map_err(|_| Error::Unreadable)
    }

    /// The agents' notes of a conversation, by the times when they were written.
    ///
    /// # Errors
    /// As [`Gateway::conversation`]; [`Refusal::NotPermitted`], if the actor is not on the brand's side.
    pub async fn agent_notes(&self, actor: &Actor, conversation: &ConversationId) -> Result<Vec<AgentNote>, Error> {
        let mut notes = Vec::new();
        for sight in self.changes(actor, conversation).await? {
            let Entry::Changed { by, changes, .. } = &sight.entry else { continue };
            for (place, change) in changes.iter().enumerate() {
                let Change::Noted { note, id, author, written } = change else { continue };
                let position = sight.position.to_string();
                let derived = || derived_uuid(&["note", conversation.as_str(), &position, &place.to_string()]).to_string();
                notes.push(AgentNote {
                    id: id.as_ref().map_or_else(derived, ToString::to_string),
                    author: author.clone().unwrap_or_else(|| by.clone()),
                    at: written.unwrap_or(sight.at),
                    text: note.clone(),
                });
            }
        }
        notes.sort_by_key(|note| note.at);
        Ok(notes)
    }

    /// What changed a conversation and is no event, from its opening on.
    ///
    /// # Errors
    /// As [`Gateway::agent_notes`].
    pub async fn changes(&self, actor: &Actor, conversation: &ConversationId) -> Result<Vec<Arc<Sight>>, Error> {
        brand_only(actor)?;
        self.conversation(actor, conversation).await?;
        self.store().changes(conversation.clone()).await.map_err(|_| Error::Unreadable)
    }

    /// The entries of the actor's account behind a position, in the order of the journal, and the position up to which that is all.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`], if the actor is no manager; [`Error::Unreadable`].
    pub async fn happened(&self, actor: &Actor, after: u64, limit: usize) -> Result<Feed, Error> {
        if !actor.is_manager() {
            return Err(Refusal::NotPermitted("only a manager may ask for all that happened".into()).into());
        }
        self.store().account_feed(actor.account().clone(), after, limit).await.map_err(|_| Error::Unreadable)
    }

    /// The position behind which entries of a time or later stand.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub async fn position_before(&self, time: Millis) -> Result<u64, Error> {
        let first = self.store().position_at(time).await.map_err(|_| Error::Unreadable)?;
        Ok(first.saturating_sub(1))
    }

    /// The newest position of the journal.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.store().head()
    }

    /// Consumers of the actor's account in the order of their ids, behind one; those that the actor may know, who are all for a manager.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`], if the actor is not on the brand's side; [`Error::Unreadable`].
    pub async fn consumers(&self, actor: &Actor, by: ConsumersBy, after: Option<ConsumerId>, limit: usize) -> Result<Vec<Consumer>, Error> {
        brand_only(actor)?;
        let found = self.store().consumers(actor.account().clone(), by, after, limit).await.map_err(|_| Error::Unreadable)?;
        if actor.is_manager() {
            return Ok(found);
        }
        let mut known = Vec::new();
        for consumer in found {
            if self.may_know(actor, &consumer.id).await? {
                known.push(consumer);
            }
        }
        Ok(known)
    }

    /// The last consumers of the actor's account in front of one, in the order of their ids.
    ///
    /// # Errors
    /// As [`Gateway::consumers`].
    pub async fn consumers_before(&self, actor: &Actor, before: ConsumerId, limit: usize) -> Result<Vec<Consumer>, Error> {
        if !actor.is_manager() {
            return Err(Refusal::NotPermitted("only a manager may list consumers".into()).into());
        }
        self.store().consumers_before(actor.account().clone(), before, limit).await.map_err(|_| Error::Unreadable)
    }

    /// The conversations of a consumer of the actor's account, the most recently changed first.
    ///
    /// # Errors
    /// As [`Gateway::consumers`].
    pub async fn conversations_of(&self, actor: &Actor, consumer: &ConsumerId, limit: usize) -> Result<Vec<Conversation>, Error> {
        brand_only(actor)?;
        let filter = ConversationFilter { consumer: Some(consumer.clone()), ..ConversationFilter::all(actor.account().clone()) };
        let found = self.store().conversations(filter, limit).await.map_err(|_| Error::Unreadable)?;
        Ok(found.conversations)
    }

    /// The open conversations of the actor's account that were opened through an application, the most recently changed first.
    ///
    /// # Errors
    /// As [`Gateway::consumers`].
    pub async fn open_through(&self, actor: &Actor, app: &ClientId, limit: usize) -> Result<Vec<Conversation>, Error> {
        brand_only(actor)?;
        let stages = vec![OpenState::Open];
        let filter = ConversationFilter { app: Some(app.clone()), stages, ..ConversationFilter::all(actor.account().clone()) };
        let found = self.store().conversations(filter, limit).await.map_err(|_| Error::Unreadable)?;
        Ok(found.conversations)
    }

    /// The conversation of the actor's account in which something is booked, by the other system's name for that.
    ///
    /// # Errors
    /// As [`Gateway::consumers`].
    pub async fn booked(&self, actor: &Actor, booking: &str) -> Result<Option<Conversation>, Error> {
        brand_only(actor)?;
        self.store().booked(actor.account().clone(), booking.to_owned()).await.map_err(|_| Error::Unreadable)
    }

    /// A consumer of the actor's account, if it was ever heard of, and the actor may know it.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`], if the actor is not on the brand's side; [`Error::Unreadable`].
    pub async fn known_consumer(&self, actor: &Actor, id: &ConsumerId) -> Result<Option<Consumer>, Error> {
        brand_only(actor)?;
        if !self.may_know(actor, id).await? {
            return Ok(None);
        }
        self.store().consumer(actor.account().clone(), id.clone()).await.map_err(|_| Error::Unreadable)
    }

    /// What was asked to be erased.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`], if the actor is not on the brand's side; [`Error::Unreadable`].
    pub async fn erasure(&self, actor: &Actor, id: &str) -> Result<Option<Erasure>, Error> {
        brand_only(actor)?;
        self.store().erasure(actor.account().clone(), id.to_owned()).await.map_err(|_| Error::Unreadable)
    }
}

/// Whether an event is for the actor's side.
fn may_see(actor: &Actor, sight: &Sight) -> bool {
    actor.person().is_some_and(|person| person.is_agent()) || sight.message().is_some_and(|found| !found.whisper)
}

fn brand_only(actor: &Actor) -> Result<(), Refusal> {
    match actor {
        Actor::Agent { .. } | Actor::System { .. } => Ok(()),
        Actor::Consumer { .. } | Actor::Application { .. } => Err(Refusal::NotPermitted("only the brand's side may ask for this".into())),
    }
}
