//! The catalogue of message types. Agents' protocol (v2) and the consumers' (v3) name the same thing
//! differently: each spelling is accepted from everybody, and answers are in the connection's own.

/// Which of the two spellings a connection is answered in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Agent consoles: names that begin with `.ams.`; agents are named by both of their ids.
    V2,
    /// Consumers, and agents that ask for it: agents are named by their participant id alone.
    V3,
}

macro_rules! catalogue {
    ($($(#[$doc:meta])* $name:ident: [$($spelling:literal),+] => $v2:literal / $v3:literal;)+) => {
        /// What a request asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum RequestKind {
            $($(#[$doc])* $name,)+
        }

        impl RequestKind {
            /// Every kind of request there is.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Finds a kind by any of its spellings.
            #[must_use]
            pub fn parse(spelling: &str) -> Option<Self> {
                match spelling {
                    $($($spelling)|+ => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Its spellings, the canonical one first.
            #[must_use]
            pub fn spellings(self) -> &'static [&'static str] {
                match self {
                    $(Self::$name => &[$($spelling),+],)+
                }
            }

            /// The type of its successful response.
            #[must_use]
            pub fn response(self, version: Version) -> &'static str {
                match (self, version) {
                    $((Self::$name, Version::V2) => $v2, (Self::$name, Version::V3) => $v3,)+
                }
            }
        }
    };
}

catalogue! {
    /// Names the consumer of a socket, or brings a fresh token for the same identity.
    InitConnection: ["InitConnection", ".ams.InitConnection"] => ".ReqBody$StringResp" / "StringResponse";
    /// Asks for the server's clock; what clients send to stay connected.
    GetClock: ["GetClock", ".GetClock", "KeepAlive"] => ".GetClock$Response" / "GetClockResponse";
    /// A consumer opens a conversation.
    ConsumerRequestConversation: ["cm.ConsumerRequestConversation", ".ams.cm.ConsumerRequestConversation", "cm.RequestConversation", ".ams.cm.types.RequestConversation"]
        => ".ams.cm.RequestConversation$Response" / "cm.RequestConversationResponse";
    /// An agent opens a conversation with a consumer.
    AgentRequestConversation: ["cm.AgentRequestConversation", ".ams.cm.AgentRequestConversation"]
        => ".ams.cm.RequestConversation$Response" / "cm.RequestConversationResponse";
    /// Publishes an event into a dialog.
    PublishEvent: ["ms.PublishEvent", ".ams.ms.PublishEvent"] => ".ams.ms.PublishEvent$Response" / "ms.PublishEventResponse";
    /// Changes a conversation.
    UpdateConversationField: ["cm.UpdateConversationField", ".ams.cm.UpdateConversationField"] => ".ReqBody$StringResp" / "StringResponse";
    /// Subscribes to conversations by a filter.
    SubscribeExConversations: ["cqm.SubscribeExConversations", ".ams.aam.SubscribeExConversations"]
        => ".ams.aam.SubscribeExConversations$Response" / "cqm.SubscribeExConversationsResponse";
    /// Ends such a subscription.
    UnsubscribeExConversations: ["cqm.UnsubscribeExConversations", ".ams.aam.UnsubscribeExConversations"] => ".ReqBody$StringResp" / "StringResponse";
    /// Gives such a subscription another filter.
    UpdateExConversationSubscription: ["cqm.UpdateExConversationSubscription", ".ams.aam.UpdateExConversationSubscription"]
        => ".ReqBody$StringResp" / "StringResponse";
    /// Follows the events of a dialog, from a number on.
    SubscribeMessagingEvents: ["ms.SubscribeMessagingEvents", ".ams.ms.SubscribeMessagingEvents"] => ".ams.GenericSubscribe$Response" / "GenericSubscribeResponse";
    /// Reads events of a dialog.
    QueryMessages: ["ms.QueryMessages", ".ams.ms.QueryMessages"] => ".ams.ms.QueryMessages$Response" / "ms.QueryMessagesResponse";
    /// Reads a profile.
    GetUserProfile: ["userprofile.GetUserProfile", ".ams.userprofile.GetUserProfile", "up.GetUserProfile"]
        => ".ams.userprofile.GetUserProfile$Response" / "userprofile.GetUserProfileResponse";
    /// Sets one's own profile.
    SetUserProfile: ["userprofile.SetUserProfile", ".ams.userprofile.SetUserProfile", "up.SetUserProfile"] => ".ReqBody$StringResp" / "StringResponse";
    /// An agent says whether it takes conversations.
    SetAgentState: ["rs.SetAgentState", ".ams.routing.SetAgentState", "routing.SetAgentState"] => ".ReqBody$StringResp" / "StringResponse";
    /// Follows what agents say of themselves.
    SubscribeAgentsState: ["rs.SubscribeAgentsState", ".ams.routing.SubscribeAgentsState", "routing.SubscribeAgentsState"]
        => ".ams.GenericSubscribe$Response" / "GenericSubscribeResponse";
    /// Follows the conversations that are offered to an agent.
    SubscribeRoutingTasks: ["rs.SubscribeRoutingTasks", ".ams.routing.SubscribeRoutingTasks", "routing.SubscribeRoutingTasks"]
        => ".ams.GenericSubscribe$Response" / "GenericSubscribeResponse";
    /// Begins such a subscription anew.
    UpdateRoutingTaskSubscription:
        ["rs.UpdateRoutingTaskSubscription", ".ams.routing.UpdateRoutingTaskSubscription", "routing.UpdateRoutingTaskSubscription"]
        => ".ReqBody$StringResp" / "StringResponse";
    /// Answers an offer.
    UpdateRingState: ["rs.UpdateRingState", ".ams.routing.UpdateRingState", "routing.UpdateRingState"] => ".ReqBody$StringResp" / "StringResponse";
    /// Asks where to put a file.
    GenerateURLForUploadFile: ["ms.GenerateURLForUploadFile", ".ams.ms.GenerateURLForUploadFile"]
        => ".ams.ms.GenerateURLResponse" / "ms.GenerateURLResponse";
    /// Asks where to get a file.
    GenerateURLForDownloadFile: ["ms.GenerateURLForDownloadFile", ".ams.ms.GenerateURLForDownloadFile"]
        => ".ams.ms.GenerateURLResponse" / "ms.GenerateURLResponse";
    /// Asks for a token with which a consumer fills a secure form.
    GenerateUploadToken: ["ms.GenerateUploadToken", ".ams.ms.token.GenerateUploadToken"] => ".ams.ms.token.UploadToken" / "ms.UploadToken";
    /// Asks for a token with which an agent reads a secure form.
    GenerateDownloadToken: ["ms.GenerateDownloadToken", ".ams.ms.token.GenerateDownloadToken"] => ".ams.ms.token.DownloadToken" / "ms.DownloadToken";
    /// Reads what is known of the account.
    GetBrandProfile: ["brandprofile.GetBrandProfile", ".ams.brandprofile.GetBrandProfile"]
        => ".ams.brandprofile.GetBrandProfile$Response" / "brandprofile.GetBrandProfileResponse";
    /// Follows the events of all conversations that an application opened. Ours; connector socket only.
    SubscribeApplicationEvents: ["ms.SubscribeApplicationEvents"] => "GenericSubscribeResponse" / "GenericSubscribeResponse";
}

impl RequestKind {
    /// The code of a success: what sets something in motion is accepted, what is done is done.
    #[must_use]
    pub fn success(self) -> u16 {
        match self {
            Self::SetAgentState | Self::UpdateRingState => 202,
            _ => 200,
        }
    }
}

/// Types that the vendor's catalogue names and that are refused as requests, each with why, or what to send instead.
pub const REFUSED: &[(&[&str], &str)] = &[
    (
        &["cm.SubscribeConversations", ".ams.cm.SubscribeConversations", "cm.UnsubscribeConversations", ".ams.cm.UnsubscribeConversations"],
        "it is obsolete; use cqm.SubscribeExConversations",
    ),
    (
        &["brandprofile.GetBrands", ".ams.brandprofile.GetBrands", "brandprofile.SetBrandProfile", ".ams.brandprofile.SetBrandProfile"],
        "accounts are configured, not changed over a socket; use brandprofile.GetBrandProfile to read one",
    ),
    (&[".ams.UnsubscribeBody"], "it is not in use; close the socket, or use cqm.UnsubscribeExConversations"),
    (&[".ams.GenericSubscribe", "GenericSubscribe"], "subscribe with a type that names what to subscribe to"),
    (
        &[
            "cqm.ExConversationChangeNotification",
            ".ams.aam.ExConversationChangeNotification",
            "ms.MessagingEventNotification",
            ".ams.ms.OnlineEventDistribution",
            "rs.RoutingTaskNotification",
            ".ams.routing.RoutingTaskNotification",
            "routing.RoutingTaskNotification",
            "rs.AgentStateNotification",
            ".ams.routing.AgentStateNotification",
            "routing.AgentStateNotification",
        ],
        "it is a notification, which only the gateway sends",
    ),
    (
        &["cm.ConversationChangeNotification", ".ams.cm.ConversationChangeNotification", ".ams.routing.RingUpdated"],
        "it is an obsolete notification, which nobody sends",
    ),
    (
        &["StringResponse", ".ReqBody$StringResp", "ms.GenerateURL", ".ams.ms.BaseGenerateURL", "ms.UploadToken", "ms.DownloadToken"],
        "it is the type of a response, which only the gateway sends",
    ),
];

/// Why a type of the vendor's catalogue is refused; nothing for a type that is served, or that nobody knows.
#[must_use]
pub fn refusal(spelling: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(spellings, _)| spellings.contains(&spelling)).map(|(_, why)| *why)
}

/// The type of every error on a consumer's or agent's socket: a response whose body is a sentence.
#[must_use]
pub fn error_response(version: Version) -> &'static str {
    match version {
        Version::V2 => ".ReqBody$StringResp",
        Version::V3 => "StringResponse",
    }
}

/// The type of every error of the Connector API.
pub const CONNECTOR_ERROR: &str = ".ReqBody$ErrorResp";

/// The type of a notification about events of a dialog.
#[must_use]
pub fn events_notification(version: Version) -> &'static str {
    match version {
        Version::V2 => ".ams.ms.OnlineEventDistribution",
        Version::V3 => "ms.MessagingEventNotification",
    }
}

/// The type of a notification about conversations of a subscription.
#[must_use]
pub fn conversations_notification(version: Version) -> &'static str {
    match version {
        Version::V2 => ".ams.aam.ExConversationChangeNotification",
        Version::V3 => "cqm.ExConversationChangeNotification",
    }
}

/// The type of a notification about conversations that are offered to an agent.
#[must_use]
pub fn routing_notification(version: Version) -> &'static str {
    match version {
        Version::V2 => ".ams.routing.RoutingTaskNotification",
        Version::V3 => "rs.RoutingTaskNotification",
    }
}

/// The type of a notification about what agents say of themselves.
#[must_use]
pub fn agents_notification(version: Version) -> &'static str {
    match version {
        Version::V2 => ".ams.routing.AgentStateNotification",
        Version::V3 => "rs.AgentStateNotification",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_spelling_names_one_kind() {
        for kind in RequestKind::ALL {
            for spelling in kind.spellings() {
                assert_eq!(RequestKind::parse(spelling), Some(*kind), "{spelling}");
            }
        }
        assert_eq!(RequestKind::parse("ms.publishEvent"), None, "types are case-sensitive");
        let refused = REFUSED.iter().flat_map(|(spellings, _)| *spellings);
        assert!(refused.into_iter().all(|spelling| RequestKind::parse(spelling).is_none() && refusal(spelling).is_some()));
    }

    #[test]
    fn response_names_that_clients_wait_for() {
        use RequestKind as K;
        assert_eq!(K::SubscribeExConversations.response(Version::V3), "cqm.SubscribeExConversationsResponse");
        assert_eq!(K::PublishEvent.response(Version::V2), ".ams.ms.PublishEvent$Response");
        assert_eq!(K::QueryMessages.response(Version::V2), ".ams.ms.QueryMessages$Response");
    }
}
