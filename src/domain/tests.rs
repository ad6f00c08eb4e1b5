//! Whatever is asked in whatever order, the rules keep their promises.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{AccountId, ConsumerId, ConversationId, DialogId};

/// A store of nothing but the fold of what was written.
#[derive(Default)]
struct World {
    conversations: HashMap<ConversationId, Conversation>,
    consumers: HashMap<(AccountId, ConsumerId), Consumer>,
    next: i64,
    position: u64,
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
                self.consumers.entry(key).or_insert_with(|| Consumer::unknown(&sight.account, &opened.consumer)).apply(&sight.entry);
            }
            Entry::Published(message) => self.conversations.get_mut(&message.conversation).unwrap().add_message(message, sight.at),
            Entry::Changed { conversation, changes, .. } => {
                self.conversations.get_mut(conversation).unwrap().change(changes, sight.at, sight.position);
            }
            Entry::ConsumerSeen { consumer, .. } | Entry::ProfileSet { consumer, .. } => {
                let key = (sight.account.clone(), consumer.clone());
                self.consumers.entry(key).or_insert_with(|| Consumer::unknown(&sight.account, consumer)).apply(&sight.entry);
            }
        }
    }
}

fn actor() -> impl Strategy<Value = Actor> {
    prop_oneof![
        (0..2_u8).prop_map(|number| Actor::Consumer { account: "demo".into(), id: format!("consumer-{number}").into(), app: None }),
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

fn field() -> impl Strategy<Value = FieldChange> {
    prop_oneof![
        Just(FieldChange::Close),
        Just(FieldChange::CloseDialog { dialog: None, cause: None }),
        (agent(), role()).prop_map(|(person, role)| FieldChange::Join { person, role }),
        (agent(), role()).prop_map(|(person, role)| FieldChange::Leave { person, role }),
        (agent(), role()).prop_map(|(person, role)| FieldChange::SetRole { person, role }),
        agent().prop_map(|person| FieldChange::Suggest { person }),
        any::<i64>().prop_map(FieldChange::SetDue),
        any::<u64>().prop_map(|seconds| FieldChange::SetTtr(Ttr { kind: "CUSTOM".into(), seconds })),
        Just(FieldChange::Note("x".into())),
        Just(FieldChange::SetQueue("77".into())),
        Just(FieldChange::Rate(Csat { rate: Some(5), resolved: None, status: "FILLED".into() })),
    ]
}

fn conversation_id() -> impl Strategy<Value = String> {
    (0..3_u8).prop_map(|number| format!("conversation-{number}"))
}

fn command() -> impl Strategy<Value = Command> {
    let event = || serde_json::value::to_raw_value("x").unwrap();
    prop_oneof![
        1 => conversation_id().prop_map(|id| Command::Open {
            conversation: id.into(),
            consumer: Some("consumer-0".into()),
            queue: "-1".into(),
            ttr: Ttr { kind: "NORMAL".into(), seconds: 3600 },
            context: None,
            campaign: None,
        }),
        4 => (conversation_id(), any::<bool>(), any::<bool>()).prop_map(move |(id, is_receipt, whisper)| Command::Publish {
            dialog: DialogId::from(id.as_str()),
            conversation: id.into(),
            class: if is_receipt { EventClass::Receipt } else { EventClass::Content },
            event: event(),
            metadata: None,
            encoded_metadata: None,
            whisper,
        }),
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
    let suggested = details.participants.iter().position(|p| p.state == ParticipantState::Suggested);
    let last_active = details.participants.iter().rposition(|p| p.state == ParticipantState::Active);
    prop_assert!(suggested.is_none_or(|suggested| Some(suggested) > last_active), "who is only suggested comes last");
    let all_closed = details.dialogs.iter().all(|dialog| dialog.state == OpenState::Closed);
    prop_assert_eq!(details.stage == OpenState::Closed, all_closed, "a conversation is closed with its last dialog");
    if let Some(before) = before {
        prop_assert!(before.details.stage == OpenState::Open || details.stage == OpenState::Closed, "nothing reopens");
        prop_assert!(after.last_at >= before.last_at && details.version >= before.details.version, "time does not go back");
        let changed = details.version != before.details.version;
        prop_assert!(!changed || details.updated > before.details.updated, "the time of the last change strictly grows");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_sequence_of_commands_keeps_the_promises_and_folds_to_the_same(
        steps in proptest::collection::vec((actor(), proptest::collection::vec(command(), 1..4)), 1..40),
        clock in proptest::collection::vec(-50_i64..50, 40),
    ) {
        let mut world = World::default();
        let mut now = 1_000_000;
        for ((actor, commands), tick) in steps.into_iter().zip(clock) {
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
            let decided = decide(&actor, &commands, &mut draft);
            let Draft { sights, conversations, .. } = draft;
            let Ok(outcomes) = decided else { continue };
            prop_assert_eq!(outcomes.len(), commands.len());
            let before: HashMap<_, _> = world.conversations.clone();
            let mut next: HashMap<DialogId, u64> = before.values().map(|known| (known.details.id.main_dialog(), known.next[0])).collect();
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
            if matches!(actor, Actor::Application { .. }) {
                prop_assert!(sights.is_empty(), "an application that speaks for nobody changes nothing");
            }
        }
    }
}
