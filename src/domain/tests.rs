//! Whatever is asked in whatever order, the rules keep their promises.

use super::policy::text_event;
use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{AccountId, ConsumerId, ConversationId, DialogId, TagId, UserId};

/// A store of nothing but the fold of what was written.
#[derive(Default)]
struct World {
    conversations: HashMap<ConversationId, Conversation>,
    consumers: HashMap<(AccountId, ConsumerId), Consumer>,
    agents: HashMap<UserId, AgentState>,
    next: i64,
    position: u64,
    named: std::collections::HashSet<(ConversationId, String)>,
}

impl View for World {
    fn conversation(&self, id: &ConversationId) -> Option<Conversation> {
        self.conversations.get(id).cloned()
    }
    fn consumer(&self, account: &AccountId, id: &ConsumerId) -> Option<Consumer> {
        self.consumers.get(&(account.clone(), id.clone())).cloned()
    }
    fn next_number(&self, _: &AccountId) -> i64 {
        self.next + 1
    }
    fn resends(&self) -> u64 {
        0
    }
    fn agent(&self, _: &AccountId, agent: &UserId) -> Option<AgentState> {
        self.agents.get(agent).cloned()
    }
    fn load(&self, _: &AccountId, agent: &UserId) -> usize {
        self.conversations.values().filter(|conversation| conversation.details.occupies().any(|user| user == agent)).count()
    }
    fn has_message(&self, conversation: &ConversationId, name: &str) -> bool {
        self.named.contains(&(conversation.clone(), name.to_owned()))
    }
    fn bound(&self, account: &AccountId, consumer: &ConsumerId, name: &str) -> Option<ConversationId> {
        let is_it = |details: &Details| {
            details.main_is_open() && (&details.account, &details.consumer, details.binding.as_deref()) == (account, consumer, Some(name))
        };
        self.conversations
            .values()
            .map(|conversation| &conversation.details)
            .find(|details| is_it(details))
            .map(|details| details.id.clone())
    }
}

impl World {
    /// Adds an entry as a store does that reads it back.
    fn fold(&mut self, sight: &Sight) {
        self.position = sight.position;
        match &sight.entry {
            Entry::Opened(opened) => {
                self.next = opened.number;
                let conversation = Conversation::open(&sight.account, opened, sight.at, sight.position);
                self.conversations.insert(opened.conversation.clone(), conversation);
                let key = (sight.account.clone(), opened.consumer.clone());
                self.consumers
                    .entry(key)
                    .or_insert_with(|| Consumer::unknown(&sight.account, &opened.consumer))
                    .apply(&sight.entry, sight.at);
            }
            Entry::Published(message) => {
                if let Some(name) = &message.external {
                    assert!(self.named.insert((message.conversation.clone(), name.clone())), "no name stands twice");
                }
                self.conversations.get_mut(&message.conversation).unwrap().add_message(message, sight.at, sight.position)
            }
            Entry::Changed { conversation, changes, .. } => {
                self.conversations.get_mut(conversation).unwrap().change(changes, sight.at, sight.position);
            }
            Entry::Removed { conversation, .. } => drop(self.conversations.remove(conversation)),
            Entry::AgentStateSet { agent, .. } => {
                let state = AgentState::of(&sight.account, &sight.entry, sight.at, sight.position).unwrap();
                self.agents.insert(agent.clone(), state);
            }
            Entry::ConsumerSeen { consumer, .. } | Entry::ClaimsSeen { consumer, .. } | Entry::ProfileSet { consumer, .. } => {
                let key = (sight.account.clone(), consumer.clone());
                self.consumers.entry(key).or_insert_with(|| Consumer::unknown(&sight.account, consumer)).apply(&sight.entry, sight.at);
            }
        }
    }
}

#[test]
fn a_time_names_one_event_of_a_conversation_as_long_as_that_is_not_far_from_the_clock() {
    let mut world = World::default();
    let consumer = Actor::Consumer { account: "demo".into(), id: "ann".into(), app: None, was: None };
    let mut times = |now: Millis, commands: &[Command]| {
        let mut draft = Draft::new(&world, now, world.position + 1);
        decide(&consumer, commands, &policy(), &mut draft).unwrap();
        let Draft { sights, .. } = draft;
        sights.iter().for_each(|sight| world.fold(sight));
        sights.iter().map(|sight| sight.at).collect::<Vec<_>>()
    };
    assert_eq!(times(1_000, &[super::fixtures::open("a")]), [1_000]);
    let three = ["one", "two", "three"].map(|text| super::fixtures::publish("a", text));
    assert_eq!(times(1_000, &three), [1_001, 1_002, 1_003]);
    // The clock goes back, and on.
    assert_eq!(times(900, &three[..1]), [1_004]);
    assert_eq!(times(2_000, &three[..2]), [2_000, 2_001]);
    let many: Vec<Command> = (0..70_000).map(|_| three[0].clone()).collect();
    let all = times(2_000, &many);
    assert!(all.is_sorted() && all[..59_000].windows(2).all(|two| two[0] < two[1]));
    assert_eq!(all.last(), Some(&62_000), "and no further");
    assert_eq!(times(63_000, &three[..1]), [63_000]);
}

#[test]
fn the_first_word_of_the_consumer_begins_a_conversation_and_says_so() {
    let mut world = World::default();
    let consumer = Actor::Consumer { account: "demo".into(), id: "ann".into(), app: None, was: None };
    let agent = Actor::Agent { account: "demo".into(), user: "2".into(), pid: "pid-2".into(), roles: [AgentRole::Manager].into() };
    let see = Command::SeeConsumer { is_new: false, consumer: "ann".into(), app: None, ext_id: None };
    let opened = |id: &str, whose: Option<&str>| match super::fixtures::open(id) {
        Command::Open { conversation, queue, ttr, context, campaign, features, binding, origin, .. } => {
            Command::Open { conversation, consumer: whose.map(Into::into), queue, ttr, context, campaign, features, binding, origin }
        }
        other => other,
    };
    let mut begun = Vec::new();
    for (at, actor, command) in [
        (1, &consumer, see),
        (2, &consumer, opened("a", None)),
        (3, &consumer, super::fixtures::publish("a", "one")),
        (4, &consumer, super::fixtures::publish("a", "two")),
        (5, &agent, opened("b", Some("ann"))),
        (6, &agent, super::fixtures::publish("b", "hello?")),
        (7, &consumer, super::fixtures::publish("b", "one")),
        (8, &consumer, super::fixtures::publish("b", "two")),
    ] {
        let mut draft = Draft::new(&world, at, world.position + 1);
        decide(actor, &[command], &policy(), &mut draft).unwrap();
        let Draft { sights, .. } = draft;
        for sight in sights {
            begun.extend(sight.message().filter(|message| message.begins).map(|message| (message.conversation.to_string(), sight.at)));
            world.fold(&sight);
        }
    }
    assert_eq!(begun, [("a".to_owned(), 3), ("b".to_owned(), 7)]);
    let direction = |id: &str| world.conversations[&ConversationId::from(id)].details.direction();
    assert_eq!((direction("a"), direction("b")), (super::Direction::Inbound, super::Direction::Outbound));
    let ann = world.consumers.values().next().unwrap();
    assert_eq!((ann.seen, ann.updated, ann.opened), (1, 1, 2));
}

fn actor() -> impl Strategy<Value = Actor> {
    prop_oneof![
        (0..2_u8).prop_map(|number| Actor::Consumer {
            account: "demo".into(),
            id: format!("consumer-{number}").into(),
            app: None,
            was: (number == 1).then(|| "consumer-0".into()),
        }),
        Just(Actor::System { account: "demo".into(), bot: policy().bot }),
        (0..3_u8).prop_map(|number| Actor::Agent {
            account: "demo".into(),
            user: number.to_string().into(),
            pid: format!("pid-{number}").into(),
            roles: [if number == 2 { AgentRole::Manager } else { AgentRole::Agent }].into(),
        }),
        Just(Actor::Application { account: "demo".into(), app: "app".into() }),
    ]
}

fn agent() -> impl Strategy<Value = Person> {
    (0..3_u8).prop_map(|number| Person::Agent { user: number.to_string().into(), pid: format!("pid-{number}").into() })
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::AssignedAgent), Just(Role::Agent), Just(Role::Manager), Just(Role::Consumer)]
}

fn fact() -> impl Strategy<Value = FieldChange> {
    let consumer = Person::Consumer("consumer-0".into());
    let offered = Rating { id: "r".into(), scale: Scale::Csat, of: None, by: consumer, offered: 0, given: None };
    let tag = |number: u8| TagId::from(number.to_string());
    prop_oneof![
        (0..2_u8).prop_map(move |number| FieldChange::Tag(tag(number))),
        (0..2_u8).prop_map(move |number| FieldChange::Untag(tag(number))),
        Just(FieldChange::SetAttributes(vec![("a".into(), Some(AttributeValue::Text("x".into())))])),
        Just(FieldChange::OfferRating(offered)),
        (0..7_u8).prop_map(|score| FieldChange::AnswerRating { rating: "r".into(), given: RatingGiven { score, comment: None, at: 0 } }),
        Just(FieldChange::SetPlace(Place::Website, Some("w".into()))),
        any::<bool>().prop_map(|stands| FieldChange::Book { booking: "b".into(), stands }),
        agent().prop_map(|author| FieldChange::AddNote { id: "n".into(), note: "x".into(), author, written: Some(1) }),
        (0..5_u64).prop_map(|sequence| FieldChange::AnonymiseMessage {
            request: "m".into(),
            dialog: "conversation-0".into(),
            sequence,
            files: 0,
        }),
    ]
}

fn field() -> impl Strategy<Value = FieldChange> {
    prop_oneof![
        Just(FieldChange::Close),
        Just(FieldChange::CloseDialog { dialog: None, cause: None }),
        (agent(), role()).prop_map(|(person, role)| FieldChange::Join { person, role }),
        (agent(), role()).prop_map(|(person, role)| FieldChange::Leave { person, role }),
        (agent(), role()).prop_map(|(person, role)| FieldChange::SetRole { person, role }),
        agent().prop_map(|person| FieldChange::Suggest { person }),
        agent().prop_map(|person| FieldChange::Come { person }),
        agent().prop_map(|person| FieldChange::Go { person }),
        any::<i64>().prop_map(FieldChange::SetDue),
        any::<u64>().prop_map(|seconds| FieldChange::SetTtr(Ttr { kind: "CUSTOM".into(), seconds })),
        Just(FieldChange::Note("x".into())),
        Just(FieldChange::SetQueue("77".into())),
        Just(FieldChange::TakeOver),
        Just(FieldChange::Reopen),
        (agent(), any::<bool>()).prop_map(|(person, takes_over)| FieldChange::Claim { person, takes_over, since: None }),
        Just(FieldChange::Transfer("77".into())),
        fact(),
        Just(FieldChange::Anonymise { request: "r".into(), closes: true }),
        Just(FieldChange::Rate(Csat { rate: Some(5), resolved: None, status: "FILLED".into() })),
    ]
}

/// Two conversations at a time for each of the three agents, of whom the last does not serve the queue.
const CAPACITY: usize = 2;

fn candidates() -> Vec<Candidate> {
    let candidate = |number: u8| Candidate {
        agent: Person::Agent { user: number.to_string().into(), pid: format!("pid-{number}").into() },
        capacity: CAPACITY,
        is_skilled: number < 2,
    };
    (0..3).map(candidate).collect()
}

fn policy() -> Policy {
    let question = |id: &str, kind| Question { id: id.into(), text: "Well?".into(), kind };
    Policy {
        ring: 100,
        refusal: 200,
        silence: Some(5_000),
        welcome: Some("Hi".into()),
        survey: Some(Survey {
            queues: Vec::new(),
            time: 1_000,
            questions: vec![question("score", QuestionKind::Csat), question("why", QuestionKind::Text)],
            thanks: Some("Thanks".into()),
        }),
        ..Policy::default()
    }
}

fn conversation_id() -> impl Strategy<Value = String> {
    (0..3_u8).prop_map(|number| format!("conversation-{number}"))
}

fn command() -> impl Strategy<Value = Command> {
    let event = || serde_json::value::to_raw_value(&serde_json::json!({"type": "ContentEvent", "message": "5"})).unwrap();
    prop_oneof![
        1 => (conversation_id(), any::<bool>()).prop_map(|(id, is_named)| Command::Open {
            features: vec!["MULTI_DIALOG".into(), "AUTO_MESSAGES".into()],
            binding: is_named.then(|| "order-7".into()),
            conversation: id.into(),
            consumer: Some("consumer-0".into()),
            queue: "-1".into(),
            ttr: Ttr { kind: "NORMAL".into(), seconds: 3600 },
            context: None,
            campaign: None,
            origin: is_named.then(|| Arc::new(Origin { subject: Some("Parcel".into()), ..Origin::new(Channel::Email, Direction::Inbound) })),
        }),
        1 => (agent(), any::<bool>()).prop_map(|(agent, is_online)| Command::SetAvailability {
            agent: agent.user().unwrap().clone(),
            availability: if is_online { Availability::Online } else { Availability::Away },
            channels: Vec::new(),
            description: None,
            reason: None,
        }),
        4 => conversation_id().prop_map(|id| Command::Route { conversation: id.into(), queue: "-1".into(), candidates: candidates() }),
        // Whoever answers names the ring by chance; most chances are taken in `answers`.
        2 => conversation_id().prop_map(|id| Command::Wake { conversation: id.into() }),
        4 => (conversation_id(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(move |(id, is_receipt, whisper, is_survey)| Command::Publish {
            dialog: DialogId::from(if is_survey { format!("{id}-survey") } else { id.clone() }),
            client: None,
            file: None,
            conversation: id.into(),
            class: if is_receipt { EventClass::Receipt } else { EventClass::Content },
            event: event(),
            metadata: None,
            encoded_metadata: None,
            whisper,
        }),
        2 => (conversation_id(), 0..4_u8, agent(), any::<bool>()).prop_map(move |(id, name, agent, is_agents)| Command::Record {
            conversation: id.into(),
            from: if is_agents { agent } else { Person::Consumer("consumer-0".into()) },
            event: event(),
            metadata: None,
            file: None,
            written: Some(1),
            external: (name > 0).then(|| name.to_string()),
        }),
        1 => (conversation_id(), conversation_id())
            .prop_map(|(child, parent)| Command::Link { child: child.into(), parent: parent.into(), kind: LinkKind::Related, was: None }),
        4 => (conversation_id(), proptest::collection::vec(field(), 1..4))
            .prop_map(|(id, changes)| Command::Update { conversation: id.into(), changes }),
    ]
}

/// What holds after every decision, for one conversation.
fn sound(before: Option<&Conversation>, after: &Conversation) -> Result<(), TestCaseError> {
    let details = &after.details;
    let assigned = details.participants.iter().filter(|p| p.role == Role::AssignedAgent && p.state == ParticipantState::Active);
    prop_assert!(assigned.count() <= 1, "never two who answer");
    let consumers: Vec<_> = details.participants.iter().filter(|p| p.role == Role::Consumer).collect();
    prop_assert!(consumers.len() == 1 && !consumers[0].person.is_agent(), "one consumer, who stays");
    prop_assert_eq!(&consumers[0].person, &Person::Consumer(details.consumer.clone()));
    let suggested = details.participants.iter().position(|p| p.state == ParticipantState::Suggested);
    let last_active = details.participants.iter().rposition(|p| p.state == ParticipantState::Active);
    prop_assert!(suggested.is_none_or(|suggested| Some(suggested) > last_active), "who is only suggested comes last");
    let all_closed = details.dialogs.iter().all(|dialog| dialog.state == OpenState::Closed);
    prop_assert_eq!(details.stage == OpenState::Closed, all_closed, "a conversation is closed with its last dialog");
    prop_assert_eq!(after.next.len(), details.dialogs.len());
    // Nobody is forgotten: what is open and was spoken in has somebody who answers, or waits.
    let has_spoken = after.last_content.as_ref().is_some_and(|content| !content.message.from.is_agent());
    let is_served = details.assignee().is_some() || after.waiting.is_some();
    prop_assert!(!details.main_is_open() || !has_spoken || is_served, "in no queue and with no agent");
    prop_assert!(details.assignee().is_none() || after.waiting.is_none(), "who has an agent does not wait");
    prop_assert!(details.ring.is_none() || after.is_pending(), "what needs nobody is offered to nobody");
    prop_assert!(details.anonymised.is_none() || (details.stage == OpenState::Closed && after.last_content.is_none()));
    prop_assert_eq!(details.assignee().is_some(), details.assigned.is_some(), "who has it has it since a time");
    let mut tags = details.facts().tags.clone();
    tags.sort();
    tags.dedup();
    prop_assert_eq!(tags.len(), details.facts().tags.len(), "no tag twice");
    prop_assert!(details.facts().parent.is_none() || details.facts().children.is_empty(), "a tree of two levels");
    if let Some(before) = before {
        let is_again = |details: &Details| details.stage == OpenState::Open && details.main_is_open();
        prop_assert!(before.details.stage == OpenState::Open || details.stage == OpenState::Closed || is_again(details), "reopens whole");
        let reopens = !before.details.main_is_open() && details.main_is_open();
        prop_assert!(!reopens || details.assignee().is_some() || after.waiting.is_some(), "what reopens waits for an agent");
        prop_assert!(before.details.anonymised.is_none() || after.next == before.next, "nothing is added to what is anonymised");
        prop_assert!(before.details.anonymised.is_none() || details.anonymised == before.details.anonymised, "and it stays so");
        prop_assert!(after.last_at >= before.last_at && after.version >= before.version, "time does not go back");
        let changed = after.version != before.version;
        prop_assert!(!changed || after.updated > before.updated, "the time of the last change strictly grows");
    }
    Ok(())
}

/// Every offer ends in one way, and says in which.
fn rings_end(sights: &[Sight], before: &HashMap<ConversationId, Conversation>) -> Result<(), TestCaseError> {
    let mut open: HashMap<ConversationId, bool> =
        before.iter().map(|(id, conversation)| (id.clone(), conversation.details.ring.is_some())).collect();
    for sight in sights {
        let Entry::Changed { conversation, changes, .. } = &sight.entry else { continue };
        for change in changes {
            let is_open = open.entry(conversation.clone()).or_default();
            match change {
                Change::Offered { .. } => prop_assert!(!std::mem::replace(is_open, true), "offered twice at once"),
                Change::RingEnded { state, .. } => {
                    prop_assert!(std::mem::replace(is_open, false), "an end without an offer");
                    prop_assert!(*state != RingState::Waiting);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whoever is offered something now and then takes it, and now and then does not.
fn answers(world: &World, choice: usize) -> Option<(Actor, Vec<Command>)> {
    let mut offered: Vec<_> = world.conversations.values().filter_map(|conversation| conversation.details.ring.as_ref()).collect();
    offered.sort_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
    let ring = offered.get(choice / 4 % offered.len().max(1))?;
    let conversation = ring.id.conversation().unwrap();
    let Person::Agent { user, pid } = &ring.agent else { return None };
    let agent = Actor::Agent { account: "demo".into(), user: user.clone(), pid: pid.clone(), roles: [AgentRole::Agent].into() };
    let system = Actor::System { account: "demo".into(), bot: policy().bot };
    let ring = ring.id.clone();
    Some(match choice % 4 {
        0 => (system, vec![Command::CancelRing { conversation, ring }]),
        1 => (agent, vec![Command::AnswerRing { conversation, ring, accepts: false, capacity: CAPACITY }]),
        _ => (agent, vec![Command::AnswerRing { conversation, ring, accepts: true, capacity: CAPACITY }]),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_sequence_of_commands_keeps_the_promises_and_folds_to_the_same(
        steps in proptest::collection::vec((actor(), proptest::collection::vec(command(), 1..4), 0..12_usize), 1..60),
        clock in proptest::collection::vec(-50_i64..80, 60),
    ) {
        let policy = policy();
        let mut world = World::default();
        let mut now = 1_000_000;
        for ((actor, commands, choice), tick) in steps.into_iter().zip(clock) {
            let (actor, commands) = answers(&world, choice).filter(|_| choice < 8).unwrap_or((actor, commands));
            // The wall clock may step back.
            now += tick;
            // A store gives a conversation's id once.
            let opens_known = commands.iter().any(|command| matches!(command, Command::Open { conversation, .. } if world.conversations.contains_key(conversation)));
            let opened: Vec<_> = commands.iter().filter_map(|command| match command {
                Command::Open { conversation, .. } => Some(conversation),
                _ => None,
            }).collect();
            let opens_twice = opened.len() > 1 && opened.iter().any(|id| opened.iter().filter(|other| other == &id).count() > 1);
            if opens_known || opens_twice {
                continue;
            }
            let mut draft = Draft::new(&world, now, world.position + 1);
            let decided = decide(&actor, &commands, &policy, &mut draft);
            let Draft { sights, conversations, .. } = draft;
            let Ok(outcomes) = decided else { continue };
            prop_assert_eq!(outcomes.len(), commands.len());
            let before: HashMap<_, _> = world.conversations.clone();
            let mut next: HashMap<DialogId, u64> = HashMap::new();
            for known in before.values() {
                next.extend(known.details.dialogs.iter().map(|dialog| dialog.id.clone()).zip(known.next.iter().copied()));
            }
            rings_end(&sights, &before)?;
            for (place, sight) in sights.iter().enumerate() {
                prop_assert_eq!(sight.position, world.position + 1, "positions are dense, entry {}", place);
                if let Some(message) = sight.message() {
                    let expected = next.entry(message.dialog.clone()).or_insert(0);
                    prop_assert_eq!(message.sequence, *expected, "numbers are dense");
                    *expected += 1;
                }
                // Through the journal's own text, as a store reads it.
                let entry: Entry = serde_json::from_str(&serde_json::to_string(&sight.entry).unwrap()).unwrap();
                world.fold(&Sight { entry, ..sight.clone() });
            }
            for (id, drafted) in &conversations {
                let folded = &world.conversations[id];
                prop_assert_eq!(serde_json::to_string(drafted).unwrap(), serde_json::to_string(folded).unwrap());
                prop_assert_eq!(&drafted.audience, &folded.audience);
                sound(before.get(id), folded)?;
            }
            let view: &dyn View = &world;
            for command in &commands {
                // What agents take of themselves has no limit; what they are offered, and accept, has.
                let offered = match command {
                    Command::Route { conversation, .. } => world.conversations.get(conversation).and_then(|known| known.details.ring.clone()),
                    _ => None,
                };
                if let Some(agent) = offered.filter(|_| outcomes.contains(&Outcome::Routed(Routed::Offered))).and_then(|ring| ring.agent.user().cloned()) {
                    prop_assert!(view.load(&"demo".into(), &agent) <= CAPACITY, "an offer beyond the capacity");
                    prop_assert_eq!(world.agents[&agent].availability, Availability::Online);
                }
            }
            if matches!(actor, Actor::Application { .. }) {
                prop_assert!(sights.is_empty(), "an application that speaks for nobody changes nothing");
            }
        }
    }
}

/// Takes commands, each by itself, and says what became of them.
impl World {
    fn take(&mut self, actor: &Actor, now: Millis, command: Command) -> Result<Outcome, Refusal> {
        let mut draft = Draft::new(self, now, self.position + 1);
        let policy = Policy { patience: Some(100), ..Policy::default() };
        let decided = decide(actor, std::slice::from_ref(&command), &policy, &mut draft).map_err(|(_, refusal)| refusal);
        let sights = std::mem::take(&mut draft.sights);
        drop(draft);
        let outcome = decided?.remove(0);
        sights.iter().for_each(|sight| self.fold(sight));
        Ok(outcome)
    }

    fn change(&mut self, actor: &Actor, now: Millis, id: &str, field: FieldChange) -> Result<Outcome, Refusal> {
        self.take(actor, now, Command::Update { conversation: id.into(), changes: vec![field] })
    }

    fn details(&self, id: &str) -> &Details {
        &self.conversations[&ConversationId::from(id)].details
    }
}

fn someone(number: u8) -> Person {
    Person::Agent { user: number.to_string().into(), pid: format!("pid-{number}").into() }
}

fn one_of(number: u8, role: AgentRole) -> Actor {
    let (user, pid) = (number.to_string().into(), format!("pid-{number}").into());
    Actor::Agent { account: "demo".into(), user, pid, roles: [role].into() }
}

fn ann() -> Actor {
    Actor::Consumer { account: "demo".into(), id: "ann".into(), app: None, was: None }
}

fn world(ids: &[&str]) -> World {
    let mut world = World::default();
    for id in ids {
        world.take(&ann(), 1_000, fixtures::open(id)).unwrap();
    }
    world
}

#[test]
fn of_two_who_claim_without_force_one_wins_and_force_takes_over() {
    let mut world = world(&["a"]);
    let claim = |number, takes_over| FieldChange::Claim { person: someone(number), takes_over, since: None };
    let (ada, bea, grace) = (one_of(0, AgentRole::Agent), one_of(1, AgentRole::Agent), one_of(2, AgentRole::Manager));
    assert_eq!(world.change(&ada, 1_001, "a", claim(0, false)), Ok(Outcome::Updated), "whoever may know of it may take it");
    assert_eq!(world.change(&bea, 1_002, "a", claim(1, false)), Err(Refusal::Taken));
    assert_eq!(world.change(&bea, 1_003, "a", claim(0, true)), Err(Refusal::NotAParticipant), "not for another");
    assert_eq!(world.change(&ada, 1_004, "a", claim(0, false)), Ok(Outcome::Updated), "it has it already");
    assert_eq!(world.details("a").assigned, Some(1_001));
    assert_eq!(world.change(&grace, 1_005, "a", claim(1, true)), Ok(Outcome::Updated));
    let details = world.details("a");
    assert_eq!((&details.assignee().unwrap().person, details.assigned), (&someone(1), Some(1_005)));
    assert!(details.participant(&someone(0)).is_none(), "whoever had it is out");
}

#[test]
fn who_comes_answers_if_nobody_does_and_may_go_whatever_it_is() {
    let mut world = world(&["a"]);
    let (come, go) = (|number| FieldChange::Come { person: someone(number) }, |number| FieldChange::Go { person: someone(number) });
    let (ada, bea) = (one_of(0, AgentRole::Agent), one_of(1, AgentRole::Agent));
    let role = |world: &World, number| world.details("a").participant(&someone(number)).and_then(Participant::active_role);
    assert_eq!(world.change(&bea, 1_001, "a", come(0)), Err(Refusal::NotAParticipant), "not for another");
    for (at, agent, change) in [(1_002, &ada, come(0)), (1_003, &bea, come(1)), (1_004, &bea, come(1))] {
        assert_eq!(world.change(agent, at, "a", change), Ok(Outcome::Updated));
    }
    assert_eq!((role(&world, 0), role(&world, 1)), (Some(Role::AssignedAgent), Some(Role::Agent)));
    assert_eq!(world.change(&ada, 1_005, "a", go(0)), Ok(Outcome::Updated));
    assert_eq!((role(&world, 0), world.conversations[&ConversationId::from("a")].waiting), (None, Some(1_005)), "it waits again");
    assert_eq!(world.change(&ada, 1_006, "a", go(0)), Ok(Outcome::Updated), "it is gone already");
    assert_eq!(world.change(&bea, 1_007, "a", come(1)), Ok(Outcome::Updated));
    assert_eq!(role(&world, 1), Some(Role::Agent), "who is there stays as it is");
    // Who is invited comes to answer, or goes.
    let grace = one_of(2, AgentRole::Manager);
    world.change(&grace, 1_008, "a", FieldChange::Suggest { person: someone(0) }).unwrap();
    world.change(&ada, 1_009, "a", come(0)).unwrap();
    assert_eq!(role(&world, 0), Some(Role::AssignedAgent));
    world.change(&grace, 1_010, "a", FieldChange::Close).unwrap();
    assert_eq!(world.change(&bea, 1_011, "a", come(1)), Ok(Outcome::Updated));
    assert!(world.change(&bea, 1_012, "a", go(1)).is_err() && world.change(&grace, 1_013, "a", come(2)).is_err(), "it is closed");
    assert_eq!(world.change(&grace, 1_014, "a", go(2)), Ok(Outcome::Updated));
}

#[test]
fn what_is_closed_opens_again_in_its_queue_and_a_transfer_leaves_its_agent() {
    let mut world = world(&["a"]);
    let grace = one_of(2, AgentRole::Manager);
    world.take(&ann(), 1_001, fixtures::publish("a", "x")).unwrap();
    let claim = FieldChange::Claim { person: someone(1), takes_over: true, since: None };
    world.change(&grace, 1_002, "a", claim).unwrap();
    world.change(&grace, 1_003, "a", FieldChange::Close).unwrap();
    assert_eq!((world.details("a").stage, world.details("a").staged), (OpenState::Closed, 1_003));
    assert_eq!(world.change(&ann(), 1_004, "a", FieldChange::Reopen).unwrap_err().code(), tieline_protocol::code::ErrorCode::NotPermitted);
    world.change(&grace, 1_005, "a", FieldChange::Reopen).unwrap();
    let details = world.details("a").clone();
    assert!(details.stage == OpenState::Open && details.main_is_open() && details.assignee().is_none());
    assert_eq!((details.staged, details.queued, details.ended, details.closed_by), (1_005, 1_005, None, None));
    assert_eq!(world.conversations[&ConversationId::from("a")].waiting, Some(1_005));
    assert_eq!(world.take(&ann(), 1_006, fixtures::publish("a", "y")), Ok(Outcome::Published { sequence: 1, resends: 0 }), "numbers go on");
    world.change(&grace, 1_007, "a", FieldChange::Claim { person: someone(1), takes_over: true, since: Some(5) }).unwrap();
    assert_eq!(world.details("a").assigned, Some(5), "as it was said");
    world.change(&grace, 1_008, "a", FieldChange::Transfer("77".into())).unwrap();
    let details = world.details("a");
    assert!(details.assignee().is_none() && details.queue == "77".into() && details.queued == 1_008);
}

#[test]
fn ratings_are_given_once_on_their_scale_and_links_have_two_levels() {
    let mut world = world(&["a", "b", "c"]);
    let grace = one_of(2, AgentRole::Manager);
    let by = Person::Consumer("ann".into());
    let rating = Rating { id: "r".into(), scale: Scale::Csat, of: Some(someone(1)), by, offered: 1, given: None };
    let strangers = Rating { by: Person::Consumer("bob".into()), ..rating.clone() };
    assert!(matches!(world.change(&grace, 1_001, "a", FieldChange::OfferRating(strangers)), Err(Refusal::Invalid(_))));
    world.change(&grace, 1_001, "a", FieldChange::OfferRating(rating)).unwrap();
    let answer =
        |rating: &str, score| FieldChange::AnswerRating { rating: rating.into(), given: RatingGiven { score, comment: None, at: 2 } };
    assert!(matches!(world.change(&ann(), 1_002, "a", answer("r", 6)), Err(Refusal::Invalid(_))));
    assert!(matches!(world.change(&ann(), 1_002, "a", answer("s", 5)), Err(Refusal::NobodyThere(_))));
    world.change(&ann(), 1_003, "a", answer("r", 5)).unwrap();
    assert_eq!(world.details("a").csat.as_ref().and_then(|csat| csat.rate), Some(5), "it is the conversation's rating");
    assert!(matches!(world.change(&ann(), 1_004, "a", answer("r", 4)), Err(Refusal::NotNow(_))));
    let link = |child: &str, parent: &str| Command::Link { child: child.into(), parent: parent.into(), kind: LinkKind::Side, was: None };
    let anew = |child: &str, parent: &str, was: &str| Command::Link {
        child: child.into(),
        parent: parent.into(),
        kind: LinkKind::Side,
        was: Some(was.into()),
    };
    assert!(matches!(world.take(&grace, 1_005, link("a", "a")), Err(Refusal::Invalid(_))));
    world.take(&grace, 1_005, link("b", "a")).unwrap();
    assert_eq!(world.take(&grace, 1_006, link("b", "a")), Ok(Outcome::Updated), "it is so already");
    for (child, parent) in [("b", "c"), ("c", "b"), ("a", "c")] {
        assert!(matches!(world.take(&grace, 1_006, link(child, parent)), Err(Refusal::NotNow(_))), "{child} under {parent}");
    }
    assert!(matches!(world.take(&ann(), 1_006, link("c", "a")), Err(Refusal::NotPermitted(_))));
    assert_eq!(world.details("a").facts().children, ["b".into()]);
    // One that retention took away holds nobody any more; one that is there does, and so does one that nobody asked about.
    assert!(matches!(world.take(&grace, 1_007, anew("b", "c", "a")), Err(Refusal::NotNow(_))), "it is there");
    world.conversations.remove(&ConversationId::from("a"));
    for link in [link("b", "c"), anew("b", "c", "c")] {
        assert!(matches!(world.take(&grace, 1_008, link), Err(Refusal::NotNow(_))));
    }
    world.take(&grace, 1_009, anew("b", "c", "a")).unwrap();
    assert_eq!(world.details("b").facts().parent.as_ref().map(|link| link.parent.as_str()), Some("c"));
    assert_eq!(world.details("c").facts().children, ["b".into()]);
}

#[test]
fn a_silent_consumer_is_counted_as_gone_once_and_a_talking_one_is_looked_at_later() {
    let mut world = world(&["a"]);
    let system = Actor::System { account: "demo".into(), bot: policy().bot };
    let wakes = |world: &World| world.conversations[&ConversationId::from("a")].wakes();
    assert_eq!(wakes(&world), None, "who has not said anything keeps nobody waiting");
    world.take(&ann(), 1_010, fixtures::publish("a", "x")).unwrap();
    assert_eq!(wakes(&world), Some(1_110));
    world.take(&ann(), 1_090, fixtures::publish("a", "y")).unwrap();
    assert_eq!(wakes(&world), Some(1_110), "it is looked at then, and not set anew by each word");
    world.take(&system, 1_110, Command::Wake { conversation: "a".into() }).unwrap();
    assert_eq!((world.details("a").abandoned, wakes(&world)), (None, Some(1_190)));
    world.take(&system, 1_190, Command::Wake { conversation: "a".into() }).unwrap();
    assert_eq!((world.details("a").abandoned.is_some(), wakes(&world)), (true, None));
    assert!(world.details("a").main_is_open(), "it is open all the same");
}

#[test]
fn who_is_seen_is_known_at_once_since_a_time_and_only_to_managers_to_be_described() {
    let mut world = world(&[]);
    let (ada, grace) = (one_of(0, AgentRole::Agent), one_of(2, AgentRole::Manager));
    let see = || Command::SeeConsumer { is_new: false, consumer: "new".into(), app: None, ext_id: Some("7".into()) };
    let name = || Command::SetProfile {
        consumer: Some("new".into()),
        profile: serde_json::value::RawValue::from_string(r#"{"nickName":"New"}"#.into()).unwrap(),
    };
    let decided = |world: &World, actor: &Actor, commands: &[Command]| {
        let mut draft = Draft::new(world, 1_001, world.position + 1);
        decide(actor, commands, &policy(), &mut draft).map(|_| draft.sights)
    };
    assert!(matches!(decided(&world, &grace, &[name(), see()]), Err((0, Refusal::NobodyThere(_)))));
    assert!(matches!(decided(&world, &ada, &[see(), name()]), Err((1, Refusal::NotPermitted(_)))));
    let again = Command::SeeConsumer { is_new: true, consumer: "new".into(), app: None, ext_id: Some("7".into()) };
    assert!(matches!(decided(&world, &grace, &[see(), again]), Err((1, Refusal::Duplicate(_)))), "who is known is not new");
    for sight in decided(&world, &grace, &[see(), name()]).unwrap() {
        world.fold(&sight);
    }
    let known = &world.consumers[&("demo".into(), "new".into())];
    assert_eq!((known.seen, known.ext_id.as_deref(), &known.profile["nickName"]), (1_001, Some("7"), &"New".into()));
}

#[test]
fn the_journal_says_as_what_somebody_left() {
    let mut world = world(&["a"]);
    let grace = one_of(2, AgentRole::Manager);
    let left = |world: &World, change: FieldChange| {
        let mut draft = Draft::new(world, 2_000, world.position + 1);
        decide(&grace, &[Command::Update { conversation: "a".into(), changes: vec![change] }], &policy(), &mut draft).unwrap();
        let Entry::Changed { changes, .. } = &draft.sights[0].entry else { panic!("a change") };
        let role = changes.iter().find_map(|change| if let Change::Left { role, .. } = change { Some(*role) } else { None });
        role.expect("somebody left")
    };
    world.change(&grace, 1_001, "a", FieldChange::Suggest { person: someone(1) }).unwrap();
    assert_eq!(left(&world, FieldChange::Leave { person: someone(1), role: Role::AssignedAgent }), None, "who is invited is nothing yet");
    world.change(&grace, 1_002, "a", FieldChange::Claim { person: someone(0), takes_over: true, since: None }).unwrap();
    assert_eq!(left(&world, FieldChange::Leave { person: someone(0), role: Role::AssignedAgent }), Some(Role::AssignedAgent));
    assert_eq!(left(&world, FieldChange::Transfer("77".into())), Some(Role::AssignedAgent));
}

#[test]
fn nothing_is_added_behind_what_is_to_be_erased_also_in_the_same_request() {
    let mut world = world(&["a"]);
    let (ada, grace) = (one_of(0, AgentRole::Agent), one_of(2, AgentRole::Manager));
    let anonymise = |closes| FieldChange::Anonymise { request: "r".into(), closes };
    let note = FieldChange::AddNote { id: "n".into(), note: "x".into(), author: someone(2), written: None };
    let both = |second| Command::Update { conversation: "a".into(), changes: vec![anonymise(true), second] };
    for second in [note, FieldChange::Reopen, anonymise(true)] {
        assert_eq!(world.take(&grace, 1_001, both(second)), Err(Refusal::Anonymised));
    }
    assert!(matches!(world.change(&grace, 1_002, "a", anonymise(false)), Err(Refusal::NotNow(_))), "it is open");
    world.change(&ada, 1_002, "a", FieldChange::Claim { person: someone(0), takes_over: false, since: None }).unwrap();
    assert!(matches!(world.change(&ada, 1_003, "a", anonymise(true)), Err(Refusal::NotPermitted(_))), "for managers");
    let others = FieldChange::AddNote { id: "n".into(), note: "x".into(), author: someone(1), written: None };
    assert!(matches!(world.change(&ada, 1_003, "a", others), Err(Refusal::NotPermitted(_))));
    let future = FieldChange::AddNote { id: "n".into(), note: "x".into(), author: someone(0), written: Some(9_000_000) };
    assert!(matches!(world.change(&ada, 1_003, "a", future), Err(Refusal::Invalid(_))));
    world.change(&grace, 1_004, "a", anonymise(true)).unwrap();
    assert_eq!(world.details("a").anonymised, Some(1_004));
}

#[test]
fn whoever_does_not_take_part_writes_in_nobodys_name_but_a_manager() {
    let mut world = world(&["a"]);
    let record = |from: Person| Command::Record {
        conversation: "a".into(),
        from,
        event: text_event("x"),
        metadata: None,
        file: None,
        written: None,
        external: None,
    };
    let ada = one_of(0, AgentRole::Agent);
    assert_eq!(world.take(&ada, 1_001, record(someone(0))), Err(Refusal::NotAParticipant));
    assert!(matches!(world.take(&ada, 1_001, record(Person::Consumer("ann".into()))), Err(Refusal::NotPermitted(_))));
    assert!(matches!(world.take(&ann(), 1_001, record(Person::Consumer("ann".into()))), Err(Refusal::NotPermitted(_))));
    let grace = one_of(2, AgentRole::Manager);
    assert_eq!(world.take(&grace, 1_002, record(Person::Consumer("bob".into()))), Err(Refusal::NotAParticipant));
    assert_eq!(world.take(&grace, 1_002, record(someone(1))), Ok(Outcome::Recorded { sequence: 0, at: 1_002 }));
    assert!(world.details("a").participant(&someone(1)).is_none(), "who wrote in passing takes no part");
    world.take(&grace, 1_003, Command::Update { conversation: "a".into(), changes: vec![FieldChange::Transfer("77".into())] }).unwrap();
    assert_eq!(world.conversations[&ConversationId::from("a")].waiting, Some(1_003), "it is put into a queue to be offered");
}

#[test]
fn nobody_has_charge_by_opening_of_what_another_began_or_is_over_or_is_to_be_called() {
    let system = Actor::System { account: "demo".into(), bot: policy().bot };
    let grace = one_of(2, AgentRole::Manager);
    let of = |channel, direction| Some(Origin::new(channel, direction));
    for (number, (actor, origin, takes)) in [
        (grace.clone(), None, true),
        (grace.clone(), of(Channel::Email, Direction::Outbound), true),
        (grace.clone(), of(Channel::Email, Direction::Inbound), false),
        (grace.clone(), of(Channel::Callback, Direction::Outbound), false),
        (grace.clone(), Some(Origin { began: Some(1), ..Origin::new(Channel::Email, Direction::Outbound) }), false),
        (system.clone(), None, false),
        (system.clone(), of(Channel::Sms, Direction::Outbound), false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut world = world(&["a"]);
        let is_call = origin.as_ref().is_some_and(|origin| origin.channel == Channel::Callback);
        let id = format!("b{number}");
        let mut open = fixtures::open(&id);
        if let Command::Open { consumer, origin: told, .. } = &mut open {
            *consumer = Some(world.details("a").consumer.clone());
            *told = origin.map(Arc::new);
        }
        world.take(&actor, 1_000, open).unwrap();
        assert_eq!(world.details(&id).assignee().is_some(), takes, "{number}");
        assert_eq!(world.conversations[&ConversationId::from(id.as_str())].waiting.is_some(), is_call, "{number}");
    }
}

#[test]
fn two_who_change_other_members_of_what_is_private_lose_nothing() {
    let mut world = world(&["a"]);
    let grace = one_of(2, AgentRole::Manager);
    let set = |text: &str| Command::SetProfile {
        consumer: Some("ann".into()),
        profile: serde_json::value::RawValue::from_string(format!(r#"{{"privateData":{text}}}"#)).unwrap(),
    };
    world.take(&grace, 1_001, set(r#"{"mail":"a@b.example","other":1}"#)).unwrap();
    world.take(&grace, 1_002, set(r#"{"mobileNum":"+49"}"#)).unwrap();
    world.take(&grace, 1_003, set(r#"{"mail":"c@d.example"}"#)).unwrap();
    let ann = &world.consumers[&("demo".into(), "ann".into())];
    assert_eq!((ann.email(), ann.phone(), &ann.profile["privateData"]["other"]), (Some("c@d.example"), Some("+49"), &1.into()));
    // So it is with an application that speaks for her; a page says all that it knows.
    for (app, other) in [(Some("hub".into()), 1.into()), (None, serde_json::Value::Null)] {
        let herself = Actor::Consumer { account: "demo".into(), id: "ann".into(), app, was: None };
        let Command::SetProfile { profile, .. } = set(r#"{"mobileNum":"+1"}"#) else { unreachable!() };
        world.take(&herself, 1_004, Command::SetProfile { consumer: None, profile }).unwrap();
        assert_eq!(world.consumers[&("demo".into(), "ann".into())].profile["privateData"]["other"], other);
    }
}
