//! What the file says of an account's tags, attributes, contact endpoints, flows, websites, audiences, bots, hubs and integrations.
//!
//! Each entry has an `id` of the file's own, from which its UUID is made, unless the file gives that, too.

use crate::things::{self, Entity, Input, IntegrationChannel, IntegrationKind, IntegrationState, Kind, Thing, ThingId};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use tieline_protocol::ids::{QueueId, UserId};
use uuid::Uuid;

/// An entry of the file.
pub trait Entry {
    /// What it stands for.
    type Thing: Thing;

    /// Its name in the file.
    fn id(&self) -> &str;

    /// Its UUID, if the file gives it.
    fn uuid(&self) -> Option<Uuid> {
        None
    }

    /// The thing. `named` gives the thing of another entry, by its kind and its name in the file.
    ///
    /// # Errors
    /// What does not go together.
    fn thing(&self, named: &dyn Fn(Kind, &str) -> ThingId) -> Result<Self::Thing, String>;
}

/// A tag.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// Its name in the file.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `#rrggbb`.
    #[serde(default)]
    pub color: Option<String>,
    /// Whether it may be put on conversations.
    #[serde(default = "yes")]
    pub active: bool,
}

fn yes() -> bool {
    true
}

impl Entry for Tag {
    type Thing = things::Tag;

    fn id(&self) -> &str {
        &self.id
    }

    fn thing(&self, _: &dyn Fn(Kind, &str) -> ThingId) -> Result<things::Tag, String> {
        Ok(things::Tag { name: self.name.clone(), color: self.color.clone(), active: self.active })
    }
}

/// An attribute.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// Its name in the file.
    pub id: String,
    /// Whose it is.
    pub entity: Entity,
    /// What programs call it.
    pub identifier: String,
    /// What people call it.
    pub label: String,
    /// The choices; none: any text.
    #[serde(default)]
    pub options: Option<Vec<Choice>>,
    /// Whether people must fill it in.
    #[serde(default)]
    pub required: bool,
    /// Whether it is put away.
    #[serde(default)]
    pub archived: bool,
    /// Whether it takes no values now.
    #[serde(default)]
    pub deactivated: bool,
}

/// A choice: a text, or what it lies under and then the text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a choice is a text, or a list of texts for one that lies under others")]
pub enum Choice {
    /// By itself.
    One(String),
    /// Under others.
    Path(Vec<String>),
}

impl Choice {
    fn path(&self) -> Vec<String> {
        match self {
            Self::One(step) => vec![step.clone()],
            Self::Path(steps) => steps.clone(),
        }
    }
}

impl Entry for Attribute {
    type Thing = things::Attribute;

    fn id(&self) -> &str {
        &self.id
    }

    fn thing(&self, _: &dyn Fn(Kind, &str) -> ThingId) -> Result<things::Attribute, String> {
        let select = |options: &Vec<Choice>| Input::Select { options: options.iter().map(Choice::path).collect() };
        Ok(things::Attribute {
            entity: self.entity,
            identifier: self.identifier.clone(),
            label: self.label.clone(),
            input: self.options.as_ref().map_or(Input::Text {}, select),
            required: self.required,
            archived: self.archived,
            deactivated: self.deactivated,
        })
    }
}

/// A contact endpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContactEndpoint {
    /// Its name in the file.
    pub id: String,
    /// The mailbox, or
    #[serde(default)]
    pub address: Option<String>,
    /// the telephone number.
    #[serde(default)]
    pub number: Option<String>,
    /// A name to show.
    #[serde(default)]
    pub name: Option<String>,
    /// What a number can do.
    #[serde(default)]
    pub functionality: Vec<String>,
}

impl Entry for ContactEndpoint {
    type Thing = things::ContactEndpoint;

    fn id(&self) -> &str {
        &self.id
    }

    fn thing(&self, _: &dyn Fn(Kind, &str) -> ThingId) -> Result<things::ContactEndpoint, String> {
        let name = self.name.clone();
        match (&self.address, &self.number) {
            (Some(_), None) if !self.functionality.is_empty() => Err("functionality goes with number".into()),
            (Some(address), None) => Ok(things::ContactEndpoint::Email { address: address.clone(), name }),
            (None, Some(number)) => {
                let functionality = self.functionality.clone();
                Ok(things::ContactEndpoint::Telephony { number: number.clone(), name, functionality })
            }
            _ => Err("write either address or number".into()),
        }
    }
}

/// A flow.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Its name in the file.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The channel.
    pub channel: String,
    /// The contact endpoint's id in the file.
    pub contact_endpoint: String,
}

impl Entry for Flow {
    type Thing = things::Flow;

    fn id(&self) -> &str {
        &self.id
    }

    fn thing(&self, named: &dyn Fn(Kind, &str) -> ThingId) -> Result<things::Flow, String> {
        let contact_endpoint = named(Kind::ContactEndpoints, &self.contact_endpoint);
        Ok(things::Flow { name: self.name.clone(), channel: self.channel.clone(), contact_endpoint })
    }
}

/// A website.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Website {
    /// Its name in the file.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its address.
    pub url: String,
}

impl Entry for Website {
    type Thing = things::Website;

    fn id(&self) -> &str {
        &self.id
    }

    fn thing(&self, _: &dyn Fn(Kind, &str) -> ThingId) -> Result<things::Website, String> {
        Ok(things::Website { name: self.name.clone(), url: self.url.clone() })
    }
}

/// Declares entries that have a name and nothing else.
macro_rules! named {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $name {
                /// Its name in the file.
                pub id: String,
                /// Its name.
                pub name: String,
            }

            impl Entry for $name {
                type Thing = things::$name;

                fn id(&self) -> &str {
                    &self.id
                }

                fn thing(&self, _: &dyn Fn(Kind, &str) -> ThingId) -> Result<things::$name, String> {
                    Ok(things::$name { name: self.name.clone() })
                }
            }
        )+
    };
}

named!(
    /// An audience.
    Audience,
    /// A bot.
    Bot,
);

/// A hub.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hub {
    /// Its name in the file.
    pub id: String,
    /// Its UUID; none: made of `id`.
    #[serde(default)]
    pub uuid: Option<Uuid>,
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
}

impl Entry for Hub {
    type Thing = things::Hub;

    fn id(&self) -> &str {
        &self.id
    }

    fn uuid(&self) -> Option<Uuid> {
        self.uuid
    }

    fn thing(&self, _: &dyn Fn(Kind, &str) -> ThingId) -> Result<things::Hub, String> {
        Ok(things::Hub { name: self.name.clone(), description: self.description.clone() })
    }
}

/// An integration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Integration {
    /// Its name in the file.
    pub id: String,
    /// Its UUID; none: made of `id`.
    #[serde(default)]
    pub uuid: Option<Uuid>,
    /// Its name.
    pub name: String,
    /// The hub's id in the file.
    pub hub: String,
    /// Whom it connects.
    #[serde(default)]
    pub kind: IntegrationKind,
    /// By what way they write.
    #[serde(default)]
    pub channel: IntegrationChannel,
    /// The agent as whom it writes.
    #[serde(default)]
    pub agent: Option<String>,
    /// The queue of its conversations.
    #[serde(default)]
    pub queue: Option<String>,
    /// Whether it is in use.
    #[serde(default)]
    pub state: IntegrationState,
    /// Whether it is told of its own messages, too.
    #[serde(default)]
    pub echo: bool,
    /// Origins of the web pages on which it is used.
    #[serde(default)]
    pub allowed_origins: Vec<String>,
}

impl Entry for Integration {
    type Thing = things::Integration;

    fn id(&self) -> &str {
        &self.id
    }

    fn uuid(&self) -> Option<Uuid> {
        self.uuid
    }

    fn thing(&self, named: &dyn Fn(Kind, &str) -> ThingId) -> Result<things::Integration, String> {
        Ok(things::Integration {
            name: self.name.clone(),
            hub: named(Kind::Hubs, &self.hub),
            kind: self.kind,
            channel: self.channel,
            agent: self.agent.as_deref().map(UserId::from),
            queue: self.queue.as_deref().map(QueueId::from),
            state: self.state,
            echo: self.echo,
            allowed_origins: self.allowed_origins.clone(),
        })
    }
}

impl super::Account {
    /// The UUID that the file gives an entry; none, if it gives none or there is no such entry.
    #[must_use]
    pub fn uuid_of(&self, kind: Kind, id: &str) -> Option<Uuid> {
        match kind {
            Kind::Hubs => self.hubs.iter().find(|hub| hub.id == id)?.uuid,
            Kind::Integrations => self.integrations.iter().find(|integration| integration.id == id)?.uuid,
            _ => None,
        }
    }

    /// The UUIDs that the file gives: the account's and its things'.
    pub(super) fn given_uuids(&self) -> impl Iterator<Item = Uuid> {
        let hubs = self.hubs.iter().filter_map(|hub| hub.uuid);
        self.uuid.into_iter().chain(hubs).chain(self.integrations.iter().filter_map(|integration| integration.uuid))
    }
}

/// Finds what is wrong with an account's things; the place in the file, and why.
pub(super) fn validate(account: &super::Account) -> Result<(), (String, String)> {
    of_kind("tags", &account.tags)?;
    of_kind("attributes", &account.attributes)?;
    of_kind("contact_endpoints", &account.contact_endpoints)?;
    of_kind("flows", &account.flows)?;
    of_kind("websites", &account.websites)?;
    of_kind("audiences", &account.audiences)?;
    of_kind("bots", &account.bots)?;
    of_kind("hubs", &account.hubs)?;
    of_kind("integrations", &account.integrations)?;
    for flow in &account.flows {
        if !account.contact_endpoints.iter().any(|endpoint| endpoint.id == flow.contact_endpoint) {
            let why = format!("{:?} is the id of no [[accounts.contact_endpoints]]", flow.contact_endpoint);
            return Err((format!("flows.{}", flow.id), why));
        }
    }
    let known = |queue: &String| queue == "-1" || account.queues.iter().any(|known| known.id == *queue);
    for integration in &account.integrations {
        let at = |why: String| Err((format!("integrations.{}", integration.id), why));
        if !account.hubs.iter().any(|hub| hub.id == integration.hub) {
            return at(format!("{:?} is the id of no [[accounts.hubs]]", integration.hub));
        }
        if let Some(unknown) = integration.agent.as_ref().filter(|agent| !account.agents.iter().any(|known| known.user_id == **agent)) {
            return at(format!("{unknown:?} is no agent of the account; write the user_id of one"));
        }
        if let Some(unknown) = integration.queue.as_ref().filter(|queue| !known(queue)) {
            return at(format!("{unknown:?} is no queue of the account"));
        }
    }
    match account.default_queue.as_ref().filter(|queue| !known(queue)) {
        Some(unknown) => Err(("default_queue".into(), format!("{unknown:?} is no queue of the account"))),
        None => Ok(()),
    }
}

fn of_kind<E: Entry>(kind: &str, entries: &[E]) -> Result<(), (String, String)> {
    let mut ids = HashSet::new();
    let mut unique = HashMap::new();
    for entry in entries {
        let at = |reason: String| Err((format!("{kind}.{}", entry.id()), reason));
        if entry.id().is_empty() || !ids.insert(entry.id()) {
            return at("each entry needs an id of its own".into());
        }
        // Which UUID is not asked here.
        let thing = match entry.thing(&|_, _| ThingId::from(Uuid::nil())) {
            Ok(thing) => thing,
            Err(reason) => return at(reason),
        };
        if let Err(reason) = thing.check() {
            return at(reason);
        }
        if let Some(other) = thing.unique().and_then(|name| unique.insert(name, entry.id())) {
            return at(format!("{other:?} has the same name, and one must do for both"));
        }
    }
    Ok(())
}
