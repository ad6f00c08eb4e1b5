//! Requests of this dialect, from whatever transport, as what they ask of a session.

use crate::config::ReplySequence;
use crate::domain::{Actor, Availability, Command, ConversationFilter, Csat, DialogKind, FieldChange, OpenState, Person, Role, Ttr};
use crate::gateway::{Error, Gateway, IdempotencyKey, Query, Request, canonical_fingerprint};
use crate::identity::{Account, Agent, FormUse};
use crate::session::Ask;
use crate::store::Range;
use serde::Deserialize;
use serde_json::value::RawValue;
use tieline_protocol::body;
use tieline_protocol::envelope::{self, OneOrMany};
use tieline_protocol::event::{Event, hosted_file, inspect};
use tieline_protocol::ids::{ConsumerId, ConversationId, DialogId, QueueId, RingId, UserId};
use tieline_protocol::json;
use tieline_protocol::kind::{RequestKind, Version, refusal};
use tieline_protocol::text::FieldText;

/// Events in an answer to a query that does not say how many, by version, and at most.
const QUERY_V3: usize = 100;
const QUERY_MOST: usize = 1_000;

/// Longest time to respond, in seconds: ten years.
const LONGEST_TTR: u64 = 10 * 365 * 86_400;

/// Largest context or campaign of a conversation, in bytes; each is shown in every notification about it.
const LARGEST_CONTEXT: usize = 8 * 1024;

/// Longest id of a conversation or dialog; ours are shorter.
const LONGEST_ID: usize = 128;

/// Most agents in one filter.
const MOST_AGENTS: usize = 100;

/// Longest note and other text of a conversation's fields, in characters.
const LONGEST_FIELD: usize = 10_000;

/// Longest reason for the end of a dialog, in characters; it is shown in every notification about its conversation.
const LONGEST_CAUSE: usize = 500;

/// Longest name that an opener gives to a conversation, in characters.
const LONGEST_BINDING: usize = 255;

/// Largest description of a client, in bytes; it is stored with each of its events.
const LARGEST_CLIENT: usize = 2 * 1024;

/// Most features of a client that are looked at.
const MOST_FEATURES: usize = 32;

/// What a client says of itself.
#[derive(Debug, Clone)]
pub(super) struct Client {
    raw: Box<RawValue>,
    features: Vec<String>,
}

impl Client {
    /// Reads the description of a client. What does not parse is ignored: one real client sends what is no JSON.
    pub(super) fn read(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Described {
            #[serde(default)]
            features: Option<OneOrMany<String>>,
        }
        if text.len() > LARGEST_CLIENT || !text.trim_start().starts_with('{') {
            return None;
        }
        let described: Described = json::object(text).ok()?;
        let features = described.features.map_or_else(Vec::new, OneOrMany::into_vec);
        let raw = serde_json::from_str(text).ok()?;
        Some(Self { raw, features: features.into_iter().take(MOST_FEATURES).collect() })
    }
}

/// Who asks, and where.
pub(super) struct Caller<'c> {
    pub(super) gateway: &'c Gateway,
    pub(super) account: &'c Account,
    pub(super) actor: &'c Actor,
    pub(super) version: Version,
    pub(super) client: Option<&'c Client>,
}

/// A body, or the empty object if there is none.
fn body<'a, T: Deserialize<'a>>(request: &envelope::Request<'a>) -> Result<T, Error> {
    let text = request.body.map_or("{}", RawValue::get);
    let fail = |reason: &str| Error::invalid(format!("the body of {} is not understood: {reason}", request.kind));
    json::checked_object(text).map_err(|reason| fail(&reason))
}

/// The type of a request, if it is known.
pub(super) fn kind_of(request: &envelope::Request<'_>) -> Result<RequestKind, Error> {
    RequestKind::parse(&request.kind).ok_or_else(|| match refusal(&request.kind) {
        Some(why) => Error::invalid(format!("the type {:?} is not served: {why}", request.kind)),
        None => Error::invalid(format!("the type {:?} is not known here", request.kind)),
    })
}

impl Caller<'_> {
    /// What a request other than `InitConnection` asks for.
    pub(super) fn ask(&self, kind: RequestKind, request: &envelope::Request<'_>) -> Result<Ask, Error> {
        match kind {
            RequestKind::GetClock => Ok(Ask::Clock),
            RequestKind::SubscribeExConversations => {
                let body: body::SubscribeConversations = body(request)?;
                Ok(Ask::Watch(self.actor.clone(), self.filter(body)?))
            }
            RequestKind::UpdateExConversationSubscription => {
                let mut body: body::SubscribeConversations = body(request)?;
                let id = body.subscription_id.take().ok_or_else(|| Error::missing("subscriptionId is missing"))?;
                Ok(Ask::Rewatch(self.actor.clone(), id, self.filter(body)?))
            }
            RequestKind::UnsubscribeExConversations => {
                let body: body::Unsubscribe = body(request)?;
                body.subscription_id.map(Ask::Unwatch).ok_or_else(|| Error::missing("subscriptionId is missing"))
            }
            RequestKind::SubscribeMessagingEvents => {
                let body: body::SubscribeMessagingEvents = body(request)?;
                let (conversation, dialog) = place(body.conversation_id, body.dialog_id)?;
                Ok(Ask::Follow { actor: self.actor.clone(), conversation, dialog, from: body.from_seq.unwrap_or(0), epoch: body.epoch })
            }
            RequestKind::QueryMessages => self.query(&body(request)?),
            RequestKind::GetUserProfile => {
                let whose = match body(request)? {
                    body::GetUserProfile::Bare(id) => Some(id),
                    body::GetUserProfile::Object { user_id } => user_id.map(|id| id.0),
                };
                Ok(self.knows(Query::Profile(whose.filter(|id| !id.is_empty()))))
            }
            RequestKind::GetBrandProfile => Ok(self.knows(Query::Account)),
            RequestKind::GenerateURLForUploadFile => {
                let body: body::GenerateUploadUrl = body(request)?;
                let size = body.file_size.ok_or_else(|| Error::missing("fileSize is missing"))?;
                let size = size.0.parse().map_err(|_| Error::invalid("fileSize must be a whole number of bytes"))?;
                let kind = body.file_type.filter(|kind| !kind.is_empty()).ok_or_else(|| Error::missing("fileType is missing"))?;
                Ok(self.knows(Query::UploadUrl { size: Some(size), kind }))
            }
            RequestKind::GenerateURLForDownloadFile => {
                let body: body::GenerateDownloadUrl = body(request)?;
                let path = body.relative_path.filter(|path| !path.is_empty()).ok_or_else(|| Error::missing("relativePath is missing"))?;
                Ok(self.knows(Query::DownloadUrl { path }))
            }
            RequestKind::GenerateUploadToken => self.form_token(FormUse::Fill, body(request)?),
            RequestKind::GenerateDownloadToken => self.form_token(FormUse::Read, body(request)?),
            RequestKind::SubscribeAgentsState => {
                let body: body::SubscribeAgents = body(request)?;
                self.own_brand(body.brand_id.as_ref())?;
                let named: Vec<_> = body.agent_id.into_iter().chain(body.agent_ids.map_or_else(Vec::new, OneOrMany::into_vec)).collect();
                if named.len() > MOST_AGENTS {
                    return Err(Error::invalid(format!("agentIds names more than {MOST_AGENTS} agents")));
                }
                let agents = named.iter().map(|name| self.agent(&name.0).map(|agent| agent.user.clone())).collect::<Result<Vec<_>, _>>()?;
                // Nobody named is oneself.
                let own = self.actor.person().and_then(|person| person.user().cloned());
                let agents = if agents.is_empty() { own.into_iter().collect() } else { agents };
                Ok(Ask::WatchAgents(self.actor.clone(), agents))
            }
            RequestKind::SubscribeRoutingTasks => {
                let body: body::SubscribeAgents = body(request)?;
                self.own_brand(body.brand_id.as_ref())?;
                messaging_only(body.channel_type.as_deref())?;
                let agent = match &body.agent_id {
                    Some(name) => self.agent(&name.0)?.user.clone(),
                    None => self.own_user()?,
                };
                Ok(Ask::WatchOffers(self.actor.clone(), agent))
            }
            RequestKind::UpdateRoutingTaskSubscription => {
                let body: body::SubscribeAgents = body(request)?;
                body.subscription_id.map(Ask::RewatchOffers).ok_or_else(|| Error::missing("subscriptionId is missing"))
            }
            RequestKind::ConsumerRequestConversation
            | RequestKind::AgentRequestConversation
            | RequestKind::PublishEvent
            | RequestKind::UpdateConversationField
            | RequestKind::SetUserProfile
            | RequestKind::SetAgentState
            | RequestKind::UpdateRingState => {
                let command = self.command(kind, request, None)?;
                let key = key_in_envelope(request).map(|key| IdempotencyKey::new(&key, &identity_of(kind, request))).transpose()?;
                Ok(Ask::Submit(Request { actor: self.actor.clone(), commands: vec![command], key, resend: self.resend(kind, request) }))
            }
            RequestKind::InitConnection => Err(Error::invalid("this connection has said who it is already")),
            RequestKind::SubscribeApplicationEvents => Err(Error::invalid("ms.SubscribeApplicationEvents is for the connector socket")),
        }
    }

    fn knows(&self, query: Query) -> Ask {
        Ask::Query(self.actor.clone(), query)
    }

    fn own_brand(&self, brand: Option<&body::Loose>) -> Result<(), Error> {
        match brand.filter(|brand| brand.0 != self.account.id.as_str()) {
            Some(brand) => Err(Error::invalid(format!("brandId {} is not the account of this connection", brand.0))),
            None => Ok(()),
        }
    }

    fn agent(&self, name: &str) -> Result<&Agent, Error> {
        self.account.agent(name).ok_or_else(|| Error::invalid("Agent does not exist"))
    }

    fn own_user(&self) -> Result<UserId, Error> {
        let own = self.actor.person().and_then(|person| person.user().cloned());
        own.ok_or_else(|| Error::invalid("only an agent is offered conversations and has a state"))
    }

    fn form_token(&self, purpose: FormUse, body: body::GenerateFormToken) -> Result<Ask, Error> {
        let form = body.downloadable.or(body.uploadable).ok_or_else(|| Error::missing("the form is missing"))?;
        if form.kind.as_deref().is_some_and(|kind| kind != "SecureForm") {
            return Err(Error::invalid("the type of the form must be SecureForm"));
        }
        let (conversation, dialog) = place(form.conversation_id, form.dialog_id)?;
        let invitation = form.invitation_id.filter(|id| !id.is_empty()).ok_or_else(|| Error::missing("invitationId is missing"))?;
        let submission = form.submission_id.filter(|id| !id.is_empty());
        if purpose == FormUse::Read && submission.is_none() {
            return Err(Error::missing("submissionId is missing"));
        }
        if [Some(&invitation), submission.as_ref()].into_iter().flatten().any(|id| id.len() > LONGEST_ID) {
            return Err(Error::invalid(format!("an id has more than {LONGEST_ID} characters")));
        }
        Ok(self.knows(Query::FormToken { purpose, conversation, dialog, invitation, submission }))
    }

    fn agent_state(&self, body: body::SetAgentState) -> Result<Command, Error> {
        let availability = body.availability.ok_or_else(|| Error::missing("availability is missing"))?;
        let availability = Availability::parse(&availability)
            .ok_or_else(|| Error::invalid("availability must be ONLINE, OCCUPIED, BACK_SOON, AWAY or OFFLINE"))?;
        let agent = match &body.agent_user_id {
            Some(name) => self.agent(&name.0)?.user.clone(),
            None => self.own_user()?,
        };
        let channels = body.channels.map_or_else(|| vec!["MESSAGING".to_owned()], OneOrMany::into_vec);
        let reason = body.reason_id.map(|reason| reason.0);
        let texts = channels.iter().chain(&body.description).chain(&reason);
        if channels.len() > MOST_FEATURES || texts.map(|text| text.chars().count()).sum::<usize>() > LONGEST_FIELD {
            return Err(Error::invalid("channels, description and reasonId are too long"));
        }
        Ok(Command::SetAvailability { agent, availability, channels, description: body.description, reason })
    }

    fn ring_answer(&self, body: body::UpdateRingState) -> Result<Command, Error> {
        let ring = body.ring_id.filter(|id| !id.is_empty()).ok_or_else(|| Error::missing("ringId is missing"))?;
        let ring = RingId::from(ring);
        let accepts = match body.ring_state.as_deref() {
            Some("ACCEPTED") => true,
            Some("REJECTED") => false,
            Some(other) => return Err(Error::invalid(format!("ringState {other:?} cannot be set; it must be ACCEPTED or REJECTED"))),
            None => return Err(Error::missing("ringState is missing")),
        };
        let user = self.own_user()?;
        let capacity = self.account.agent(user.as_str()).map_or(0, |agent| agent.capacity);
        let no_ring = || Error::invalid("Ring does not exist");
        let conversation = ring.conversation().filter(|id| id.as_str().len() <= LONGEST_ID).ok_or_else(no_ring)?;
        Ok(Command::AnswerRing { conversation, ring, accepts, capacity })
    }

    /// What counts as the very same request, for applications that count that.
    pub(super) fn resend(&self, kind: RequestKind, request: &envelope::Request<'_>) -> Option<crate::store::Fingerprint> {
        let Actor::Consumer { app: Some(app), .. } = self.actor else { return None };
        let counts = self.account.app(app)?.reply_sequence == ReplySequence::ResendCount;
        counts.then(|| {
            let mut parts = identity_of(kind, request);
            parts.push(&request.id);
            canonical_fingerprint(&parts)
        })
    }

    /// The command of a request that changes something. `opened` is the conversation that an earlier request of the
    /// same batch opens, which an empty `dialogId` means.
    pub(super) fn command(
        &self,
        kind: RequestKind,
        request: &envelope::Request<'_>,
        opened: Option<&ConversationId>,
    ) -> Result<Command, Error> {
        match kind {
            RequestKind::ConsumerRequestConversation | RequestKind::AgentRequestConversation => self.open(kind, &body(request)?),
            RequestKind::PublishEvent => self.publish(request, opened),
            RequestKind::UpdateConversationField => self.update(body(request)?),
            RequestKind::SetAgentState => self.agent_state(body(request)?),
            RequestKind::UpdateRingState => self.ring_answer(body(request)?),
            RequestKind::SetUserProfile => {
                let profile = request.body.map_or_else(|| serde_json::from_str("{}"), |body| Ok(body.to_owned()));
                let profile: Box<RawValue> = profile.map_err(|error| Error::invalid(error.to_string()))?;
                if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(profile.get()).is_err() {
                    return Err(Error::invalid("the body of userprofile.SetUserProfile must be an object"));
                }
                Ok(Command::SetProfile { consumer: None, profile })
            }
            _ => Err(Error::invalid(format!("{} cannot be sent here", kind.spellings()[0]))),
        }
    }

    fn open(&self, kind: RequestKind, body: &body::RequestConversation<'_>) -> Result<Command, Error> {
        self.own_brand(body.brand_id.as_ref())?;
        messaging_only(body.channel_type.as_deref())?;
        let ttr = Ttr::named(body.ttr_def_name.as_deref(), None)
            .ok_or_else(|| Error::invalid("ttrDefName must be NORMAL, PRIORITIZED, URGENT or CUSTOM"))?;
        let consumer = body.consumer_id.as_ref().map(|id| ConsumerId::from(id.0.as_str()));
        if kind == RequestKind::AgentRequestConversation && !matches!(self.actor, Actor::Agent { .. }) {
            return Err(Error::invalid("cm.AgentRequestConversation is for agents; a consumer sends cm.ConsumerRequestConversation"));
        }
        let queue = body.skill_id.as_ref().map(|skill| skill.0.as_str()).filter(|skill| !skill.is_empty());
        let keep = |raw: Option<&RawValue>| raw.filter(|raw| raw.get() != "null").map(ToOwned::to_owned);
        let parts = [("conversationContext", body.conversation_context), ("campaignInfo", body.campaign_info)];
        if let Some((name, _)) = parts.into_iter().find(|(_, raw)| raw.is_some_and(|raw| raw.get().len() > LARGEST_CONTEXT)) {
            return Err(Error::invalid(format!("{name} has more than {LARGEST_CONTEXT} bytes")));
        }
        Ok(Command::Open {
            conversation: ConversationId::from(uuid::Uuid::new_v4().to_string()),
            consumer: consumer.filter(|_| kind == RequestKind::AgentRequestConversation),
            queue: queue.map_or_else(QueueId::unassigned, QueueId::from),
            ttr,
            context: keep(body.conversation_context),
            campaign: keep(body.campaign_info),
            features: self.client.map_or_else(Vec::new, |client| client.features.clone()),
            binding: binding(body.binding.as_ref())?,
            origin: None,
        })
    }

    fn publish(&self, request: &envelope::Request<'_>, opened: Option<&ConversationId>) -> Result<Command, Error> {
        let body: body::PublishEvent<'_> = body(request)?;
        let (conversation, dialog) = match (opened, body.dialog_id.as_deref()) {
            (Some(opened), Some("")) => (opened.clone(), opened.main_dialog()),
            _ => place_of(body.conversation_id.as_deref(), body.dialog_id.as_deref())?,
        };
        let event = body.event.ok_or_else(|| Error::missing("event is missing"))?;
        let whisper = match body.message_audience.as_deref() {
            None | Some("ALL") => false,
            Some("AGENTS_AND_MANAGERS") => true,
            Some(other) => {
                return Err(Error::invalid(format!("messageAudience {other:?} is not known; it must be ALL or AGENTS_AND_MANAGERS")));
            }
        };
        match inspect(event, self.gateway.limits()).map_err(Error::invalid)? {
            Event::Typing => Ok(Command::Type { conversation, dialog, event: event.to_owned(), whisper }),
            Event::Stored(class) => Ok(Command::Publish {
                conversation,
                dialog,
                class,
                event: event.to_owned(),
                metadata: request.metadata.map(ToOwned::to_owned),
                encoded_metadata: request.encoded_metadata.as_deref().map(str::to_owned),
                client: self.client.map(|client| client.raw.clone()),
                file: hosted_file(event),
                whisper,
            }),
        }
    }

    fn update(&self, body: body::UpdateConversationField) -> Result<Command, Error> {
        let conversation = body.conversation_id.filter(|id| !id.is_empty()).ok_or_else(|| Error::missing("conversationId is missing"))?;
        let (conversation, _) = place(Some(conversation), None)?;
        let fields = body.conversation_field.map_or_else(Vec::new, OneOrMany::into_vec);
        if fields.is_empty() {
            return Err(Error::missing("conversationField is missing"));
        }
        if matches!(self.actor, Actor::Consumer { .. }) && fields.iter().all(is_about_consumers) {
            return self.take_over(conversation, &fields);
        }
        let changes = fields.iter().map(|field| self.field(field)).collect::<Result<Vec<_>, _>>()?;
        Ok(Command::Update { conversation, changes: leaving_first(changes) })
    }

    /// A consumer that has signed in puts itself in the place of who it was.
    fn take_over(&self, conversation: ConversationId, fields: &[body::ConversationField]) -> Result<Command, Error> {
        let own = self.actor.person();
        let names_itself = |field: &body::ConversationField| {
            let named = field.user_id.as_ref().map(|id| id.0.as_str()).filter(|id| !id.is_empty());
            field.kind.as_deref() == Some("ADD") && named.is_none_or(|named| own.as_ref().is_some_and(|own| own.public_id() == named))
        };
        match fields.iter().any(names_itself) {
            true => Ok(Command::Update { conversation, changes: vec![FieldChange::TakeOver] }),
            false => Err(Error::invalid("a consumer can only ADD itself as CONSUMER, in the place of who it was before it signed in")),
        }
    }

    fn field(&self, field: &body::ConversationField) -> Result<FieldChange, Error> {
        let missing = |name: &str| Error::missing(format!("{name} is missing"));
        let is_close = |state: Option<&str>, name: &str| match state {
            Some("CLOSE") => Ok(()),
            Some(other) => Err(Error::invalid(format!("{name} {other:?} cannot be set; it can only be set to CLOSE"))),
            None => Err(missing(name)),
        };
        match field.field.as_deref() {
            Some("ConversationStateField") => {
                is_close(field.conversation_state.as_deref(), "conversationState")?;
                // An agent who closes the state closes the conversation; to have questions follow it closes the dialog.
                let closes_all = matches!(self.actor, Actor::Agent { .. });
                Ok(if closes_all { FieldChange::Close } else { FieldChange::CloseDialog { dialog: None, cause: None } })
            }
            Some("Stage") => {
                is_close(field.conversation_state.as_deref(), "conversationState")?;
                Ok(FieldChange::Close)
            }
            Some("DialogChange") => {
                let dialog = field.dialog.as_ref().ok_or_else(|| missing("dialog"))?;
                if field.kind.as_deref().is_some_and(|kind| kind != "UPDATE") {
                    return Err(Error::invalid("DialogChange must be of type UPDATE"));
                }
                is_close(dialog.state.as_deref(), "dialog.state")?;
                let id = dialog.dialog_id.as_deref().ok_or_else(|| missing("dialog.dialogId"))?;
                if dialog.closed_cause.as_ref().is_some_and(|cause| cause.chars().count() > LONGEST_CAUSE) {
                    return Err(Error::invalid(format!("closedCause is longer than {LONGEST_CAUSE} characters")));
                }
                Ok(FieldChange::CloseDialog { dialog: Some(DialogId::from(id)), cause: dialog.closed_cause.clone() })
            }
            Some("ParticipantsChange") => self.participants_change(field),
            Some("Skill") => {
                field.skill.as_ref().map(|skill| FieldChange::SetQueue(QueueId::from(skill.0.as_str()))).ok_or_else(|| missing("skill"))
            }
            Some("TTRField") if field.value.is_some_and(|seconds| seconds > LONGEST_TTR) => {
                Err(Error::invalid(format!("value is more than {LONGEST_TTR} seconds")))
            }
            Some("TTRField") => Ttr::named(field.ttr_type.as_deref(), field.value)
                .map(FieldChange::SetTtr)
                .ok_or_else(|| Error::invalid("ttrType must be NORMAL, PRIORITIZED, URGENT or CUSTOM")),
            Some("ManualETTR") => field.time.map(FieldChange::SetDue).ok_or_else(|| missing("time")),
            Some("CSATRate") => rating(field),
            Some("Note") => {
                let note = field.note.clone().ok_or_else(|| missing("note"))?;
                if note.chars().count() > LONGEST_FIELD {
                    return Err(Error::invalid(format!("note is longer than {LONGEST_FIELD} characters")));
                }
                Ok(FieldChange::Note(note))
            }
            Some(other) => Err(Error::invalid(format!(
                "field {other:?} is not known; it must be ConversationStateField, Stage, DialogChange, ParticipantsChange, Skill, TTRField, ManualETTR, CSATRate or Note"
            ))),
            None => Err(missing("conversationField.field")),
        }
    }

    fn participants_change(&self, field: &body::ConversationField) -> Result<FieldChange, Error> {
        let role = field.role.as_deref().ok_or_else(|| Error::missing("role is missing"))?;
        let role = Role::parse(role).ok_or_else(|| Error::invalid(format!("role {role:?} is not known")))?;
        let person = match field.user_id.as_ref().map(|id| id.0.as_str()).filter(|id| !id.is_empty()) {
            None => self.actor.person().filter(Person::is_agent).ok_or_else(|| Error::missing("userId is missing"))?,
            Some(name) => self.agent(name)?.person(),
        };
        match field.kind.as_deref() {
            Some("ADD") => Ok(FieldChange::Join { person, role }),
            Some("REMOVE") => Ok(FieldChange::Leave { person, role }),
            Some("SUGGEST") => Ok(FieldChange::Suggest { person }),
            Some("UPDATE") => Ok(FieldChange::SetRole { person, role }),
            _ => Err(Error::invalid("the type of a ParticipantsChange must be ADD, REMOVE, SUGGEST or UPDATE")),
        }
    }

    fn filter(&self, body: body::SubscribeConversations) -> Result<ConversationFilter, Error> {
        self.own_brand(body.brand_id.as_ref())?;
        let states = |states: Option<OneOrMany<String>>, others: &[&str]| {
            let mut known = Vec::new();
            for state in states.map_or_else(Vec::new, OneOrMany::into_vec) {
                match state.as_str() {
                    "OPEN" => known.push(OpenState::Open),
                    "CLOSE" => known.push(OpenState::Closed),
                    // Known to the vendor's clients; no conversation of ours is ever in it.
                    other if others.contains(&other) => {}
                    other => return Err(Error::invalid(format!("state {other:?} is not known; it must be OPEN or CLOSE"))),
                }
            }
            Ok(known)
        };
        let mut agents: Vec<UserId> = Vec::new();
        for name in body.agent_ids.map_or_else(Vec::new, OneOrMany::into_vec) {
            // An agent that is not there takes part in nothing, but must still narrow the filter.
            let known = self.account.agent(&name).map(|agent| agent.user.clone());
            let user = known.unwrap_or_else(|| name.as_str().into());
            if !agents.contains(&user) {
                agents.push(user);
            }
            if agents.len() > MOST_AGENTS {
                return Err(Error::invalid(format!("agentIds names more than {MOST_AGENTS} agents")));
            }
        }
        let locked_only =
            matches!(&body.conv_state, Some(OneOrMany::Many(states)) if !states.is_empty() && states.iter().all(|state| state == "LOCKED"));
        Ok(ConversationFilter {
            states: states(body.conv_state, &["LOCKED"])?,
            stages: states(body.stage, &[])?,
            agents,
            consumer: body.consumer_id.map(ConsumerId::from),
            app: None,
            conversation: body.conversation_id.map(ConversationId::from),
            updated_from: body.min_last_updated_time,
            // Nothing is ever locked, so nothing was changed early enough.
            updated_to: if locked_only { Some(i64::MIN) } else { body.max_last_updated_time },
            due_by: body.max_ettr,
            dialogs: dialog_kinds(body.dialog_types.map_or_else(Vec::new, OneOrMany::into_vec))?,
            ..ConversationFilter::all(self.account.id.clone())
        })
    }

    fn query(&self, body: &body::QueryMessages) -> Result<Ask, Error> {
        let (conversation, dialog) = place(body.conversation_id.clone(), body.dialog_id.clone())?;
        let default = if self.version == Version::V2 { QUERY_MOST } else { QUERY_V3 };
        let limit = match body.max_quantity {
            None => default,
            Some(0) => return Err(Error::invalid("maxQuantity must be at least 1")),
            Some(most) => usize::try_from(most).unwrap_or(QUERY_MOST).min(QUERY_MOST),
        };
        let to = body.older_than_sequence.unwrap_or(u64::MAX);
        let range = match body.newer_than_sequence {
            // Some clients begin at -1.
            Some(from) => Range::Forward { from: u64::try_from(from).unwrap_or(0), to, limit },
            None => Range::Backward { to, limit },
        };
        Ok(self.knows(Query::Events { conversation, dialog, range }))
    }
}

/// A transfer is written as leaving and joining in either order; leaving comes first, since only one can be assigned.
fn leaving_first(mut changes: Vec<FieldChange>) -> Vec<FieldChange> {
    changes.sort_by_key(|change| !matches!(change, FieldChange::Leave { .. }));
    changes
}

fn is_about_consumers(field: &body::ConversationField) -> bool {
    field.field.as_deref() == Some("ParticipantsChange") && field.role.as_deref() == Some(Role::Consumer.as_str())
}

fn messaging_only(channel: Option<&str>) -> Result<(), Error> {
    match channel.filter(|channel| *channel != "MESSAGING") {
        Some(channel) => Err(Error::invalid(format!("channelType {channel:?} is not known; it must be MESSAGING"))),
        None => Ok(()),
    }
}

fn binding(name: Option<&body::Loose>) -> Result<Option<String>, Error> {
    let Some(name) = name.map(|name| name.0.as_str()).filter(|name| !name.is_empty()) else { return Ok(None) };
    if name.chars().count() > LONGEST_BINDING || name.chars().any(char::is_control) {
        return Err(Error::invalid(format!("binding has 1 to {LONGEST_BINDING} printable characters")));
    }
    Ok(Some(name.to_owned()))
}

/// The kinds of dialogs that a filter names. Conversations of ours have no dialogs of the vendor's other kinds.
fn dialog_kinds(names: Vec<String>) -> Result<Vec<DialogKind>, Error> {
    let known = [DialogKind::Main, DialogKind::Survey];
    let mut kinds = Vec::new();
    for name in &names {
        match known.into_iter().find(|kind| kind.as_str() == name) {
            Some(kind) => kinds.push(kind),
            None => return Err(Error::invalid(format!("dialogTypes {name:?} is not known; it must be MAIN or POST_SURVEY"))),
        }
    }
    Ok(kinds)
}

fn rating(field: &body::ConversationField) -> Result<FieldChange, Error> {
    let rate = match &field.csat_rate {
        None => None,
        Some(rate) => match rate.0.parse::<u8>() {
            Ok(rate) if rate <= 5 => Some(rate),
            _ => return Err(Error::invalid("csatRate must be a whole number from 0 to 5")),
        },
    };
    let status = field.status.clone().unwrap_or_else(|| "FILLED".into());
    if !["FILLED", "PARTIALLY_FILLED", "SKIPPED", "EMPTY"].contains(&status.as_str()) {
        return Err(Error::invalid("status must be FILLED, PARTIALLY_FILLED, SKIPPED or EMPTY"));
    }
    if rate.is_none() && status == "FILLED" {
        return Err(Error::missing("csatRate is missing"));
    }
    Ok(FieldChange::Rate(Csat { rate, resolved: field.csat_resolution_confirmation, status }))
}

/// A dialog and its conversation. Without one, the dialog is a MAIN one, which has its conversation's id.
fn place(conversation: Option<String>, dialog: Option<String>) -> Result<(ConversationId, DialogId), Error> {
    place_of(conversation.as_deref(), dialog.as_deref())
}

fn place_of(conversation: Option<&str>, dialog: Option<&str>) -> Result<(ConversationId, DialogId), Error> {
    if [conversation, dialog].into_iter().flatten().any(|id| id.len() > LONGEST_ID) {
        return Err(Error::invalid(format!("an id has more than {LONGEST_ID} characters")));
    }
    match (conversation.filter(|id| !id.is_empty()), dialog.filter(|id| !id.is_empty())) {
        (None, None) => Err(Error::missing("dialogId is missing")),
        (Some(conversation), None) => {
            let conversation = ConversationId::from(conversation);
            let dialog = conversation.main_dialog();
            Ok((conversation, dialog))
        }
        (conversation, Some(dialog)) => {
            let dialog = DialogId::from(dialog);
            Ok((conversation.map_or_else(|| dialog.as_conversation(), ConversationId::from), dialog))
        }
    }
}

/// What makes a request the same under one idempotency key.
pub(super) fn identity_of<'r>(kind: RequestKind, request: &'r envelope::Request<'_>) -> Vec<&'r str> {
    let metadata = request.metadata.map_or("", RawValue::get);
    vec![kind.spellings()[0], request.body.map_or("", RawValue::get), metadata, request.encoded_metadata.as_deref().unwrap_or("")]
}

/// The idempotency key of an envelope.
pub(super) fn key_in_envelope(request: &envelope::Request<'_>) -> Option<String> {
    request.header("IdempotencyKey").map(|header| header.key.as_deref().unwrap_or("").to_owned())
}

/// The text that says that a change of fields happened, which clients compare. For several fields it is that of the first.
pub(super) fn success_text(request: &envelope::Request<'_>) -> &'static str {
    let fields: Result<body::UpdateConversationField, _> = body(request);
    let first = fields.ok().and_then(|body| body.conversation_field?.into_vec().into_iter().next());
    first.as_ref().map_or(FieldText::Resolved, FieldText::of).as_str()
}
