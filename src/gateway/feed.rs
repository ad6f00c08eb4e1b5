//! Feeds: what happens in an application's conversations, or in all of an account, with what must be known to tell of it.

use super::query::CATCH_UP;
use super::{Error, Gateway};
use crate::domain::{Actor, Change, Consumer, Conversation, ConversationFilter, Entry, OpenState, Sight};
use crate::store::{Range, ReadError};
use std::collections::HashMap;
use std::sync::Arc;
use tieline_protocol::event::{EventClass, read_numbers};
use tieline_protocol::ids::{ConsumerId, ConversationId};

/// Messages of an erased conversation that are named one by one: the newest.
const ERASED: usize = 500;
/// So much of one batch is told of, entries and what they are about, before the rest is left to the next.
const MOST: usize = 1_000;
/// Open conversations of one consumer that are told of when it is called something else.
const OF_ONE: usize = 100;

/// An entry of a feed, with what must be known to tell of it.
#[derive(Debug, Clone)]
pub struct Fed {
    /// The entry.
    pub sight: Arc<Sight>,
    /// Its conversation as it is now; of an entry about a consumer, each of its open conversations is told of by itself.
    pub conversation: Option<Conversation>,
    /// For an agent: what is known of the conversation's consumer, as far as the agent may know that.
    pub consumer: Option<Consumer>,
    /// For an agent: the messages that it is about. What a receipt says was read, the last of it; what is to be erased.
    pub about: Vec<Arc<Sight>>,
}

impl Fed {
    /// How much there is to tell.
    fn size(&self) -> usize {
        1 + self.about.len()
    }
}

/// What is known of the conversations of some entries, each looked up once.
#[derive(Default)]
struct Known(HashMap<ConversationId, (Option<Conversation>, Option<Consumer>)>);

impl Known {
    async fn of(
        &mut self,
        gateway: &Gateway,
        actor: &Actor,
        id: &ConversationId,
    ) -> Result<(Option<Conversation>, Option<Consumer>), ReadError> {
        if let Some(known) = self.0.get(id) {
            return Ok(known.clone());
        }
        let conversation = gateway.store().conversation(id.clone()).await?;
        let consumer = match &conversation {
            Some(conversation) => gateway.consumer_of(actor, conversation).await.map_err(unreadable)?,
            None => None,
        };
        self.0.insert(id.clone(), (conversation.clone(), consumer.clone()));
        Ok((conversation, consumer))
    }
}

fn unreadable(_: Error) -> ReadError {
    ReadError
}

impl Gateway {
    /// Some entries behind a position of an application's feed, or for an agent of its account's; and the position up to which that
    /// is all. With all that is known of what they are about, or only with the conversations of those that are no events.
    pub(crate) async fn feed(&self, actor: &Actor, after: u64, has_states: bool) -> Result<(Vec<Fed>, u64), ReadError> {
        let account = actor.account().clone();
        let (sights, reached) = match actor {
            Actor::Application { app, .. } => self.store().feed(account, app.clone(), after, CATCH_UP).await?,
            _ => self.store().account_feed(account, after, CATCH_UP).await?,
        };
        let mut fed = Vec::with_capacity(sights.len());
        let mut known = Known::default();
        for sight in sights {
            // An entry may be about much: what is left comes with the next batch.
            if fed.iter().map(Fed::size).sum::<usize>() >= MOST {
                let last = fed.last().map_or(after, |last: &Fed| last.sight.position);
                return Ok((fed, last));
            }
            match (sight.entry.conversation(), &sight.entry) {
                (Some(id), _) if has_states => {
                    let (conversation, consumer) = known.of(self, actor, id).await?;
                    let about = match actor {
                        Actor::Agent { .. } => self.about(&sight, id, conversation.as_ref()).await?,
                        _ => Vec::new(),
                    };
                    fed.push(Fed { sight, conversation, consumer, about });
                }
                (Some(id), _) if sight.message().is_none() => {
                    let conversation = self.store().conversation(id.clone()).await?;
                    fed.push(Fed { sight, conversation, consumer: None, about: Vec::new() });
                }
                (None, Entry::ProfileSet { consumer, .. }) if has_states => {
                    for id in self.open_of(&sight, consumer).await? {
                        let (conversation, consumer) = known.of(self, actor, &id).await?;
                        fed.push(Fed { sight: sight.clone(), conversation, consumer, about: Vec::new() });
                    }
                }
                _ => fed.push(Fed { sight, conversation: None, consumer: None, about: Vec::new() }),
            }
        }
        Ok((fed, reached))
    }

    /// The open conversations that a consumer had when something was said of it, in the order of their numbers.
    async fn open_of(&self, sight: &Sight, consumer: &ConsumerId) -> Result<Vec<ConversationId>, ReadError> {
        let filter = ConversationFilter {
            consumer: Some(consumer.clone()),
            stages: vec![OpenState::Open],
            ..ConversationFilter::all(sight.account.clone())
        };
        let mut open = self.store().conversations(filter, OF_ONE).await?.conversations;
        // What is opened together with its consumer's profile is told of when it is opened.
        open.retain(|one| one.details.started < sight.at);
        open.sort_by_key(|one| one.details.number);
        Ok(open.into_iter().map(|one| one.details.id.clone()).collect())
    }

    async fn about(&self, sight: &Sight, id: &ConversationId, known: Option<&Conversation>) -> Result<Vec<Arc<Sight>>, ReadError> {
        let main = id.main_dialog();
        let one = |sequence| self.store().events(main.clone(), Range::Forward { from: sequence, to: sequence, limit: 1 });
        let mut about = Vec::new();
        match &sight.entry {
            Entry::Published(receipt) if receipt.class == EventClass::Receipt && receipt.dialog == main => {
                if let Some(last) = read_numbers(&receipt.event).into_iter().max() {
                    about = one(last).await?;
                }
            }
            Entry::Changed { changes, .. } => {
                for change in changes {
                    match change {
                        Change::MessageAnonymised { dialog, sequence, .. } if *dialog == main => about.extend(one(*sequence).await?),
                        Change::Anonymised { .. } => {
                            let newest = known.and_then(|known| known.next[0].checked_sub(1));
                            if let Some(to) = newest {
                                about.extend(self.store().events(main.clone(), Range::Backward { to, limit: ERASED }).await?);
                            }
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(about)
    }
}
