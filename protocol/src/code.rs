//! Error codes and close codes: closed lists that know what a client should do about each.

/// What went wrong with a request. The first three digits of [`ErrorCode::number`] are the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// A required member or parameter is missing.
    MissingParameter,
    /// The request cannot be understood: no JSON, an unknown type, a member of the wrong type.
    InvalidRequest,
    /// The request is understood and not possible in the present state.
    Refused,
    /// The connection has not said who it is.
    NotAuthenticated,
    /// The AppJWT has expired, is forged, or is for another account.
    InvalidAppJwt,
    /// The ConsumerJWS is bad, or names a consumer to whom the conversation does not belong.
    InvalidConsumerJws,
    /// There is no ConsumerJWS.
    MissingConsumerJws,
    /// There is no AppJWT.
    MissingAppJwt,
    /// The identity is known and may not do this.
    NotPermitted,
    /// There is nothing at this address.
    NotFound,
    /// The same idempotency key came with another request.
    KeyReused,
    /// The position is from another log than the one now served.
    OtherEpoch,
    /// The thing has another revision by now than the request names.
    OtherRevision,
    /// The body is over the limit.
    TooLarge,
    /// Too many requests.
    TooMany,
    /// A fault of the gateway.
    Internal,
    /// The store did not confirm the write: it may or may not have happened.
    Unknown,
    /// The gateway has more waiting than it can take; nothing was written.
    Busy,
    /// The disk is full; nothing was written.
    DiskFull,
}

impl ErrorCode {
    /// Every code there is.
    pub const ALL: &[Self] = &[
        Self::MissingParameter,
        Self::InvalidRequest,
        Self::Refused,
        Self::NotAuthenticated,
        Self::InvalidAppJwt,
        Self::InvalidConsumerJws,
        Self::MissingConsumerJws,
        Self::MissingAppJwt,
        Self::NotPermitted,
        Self::NotFound,
        Self::KeyReused,
        Self::OtherEpoch,
        Self::OtherRevision,
        Self::TooLarge,
        Self::TooMany,
        Self::Internal,
        Self::Unknown,
        Self::Busy,
        Self::DiskFull,
    ];

    /// The number shown as `errorCode`.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::MissingParameter => 40001,
            Self::InvalidRequest => 40002,
            Self::Refused => 40003,
            Self::NotAuthenticated => 40101,
            Self::InvalidAppJwt => 40102,
            Self::InvalidConsumerJws => 40103,
            Self::MissingConsumerJws => 40104,
            Self::MissingAppJwt => 40105,
            Self::NotPermitted => 40301,
            Self::NotFound => 40401,
            Self::KeyReused => 40901,
            Self::OtherEpoch => 40902,
            Self::OtherRevision => 41201,
            Self::TooLarge => 41301,
            Self::TooMany => 42901,
            Self::Internal => 50001,
            Self::Unknown => 50301,
            Self::Busy => 50302,
            Self::DiskFull => 50701,
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        u16::try_from(self.number() / 100).unwrap_or(500)
    }

    /// The title shown beside the number.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::MissingParameter => "Missing parameter",
            Self::InvalidRequest => "Invalid request",
            Self::Refused => "Request refused",
            Self::NotAuthenticated => "Not authenticated",
            Self::InvalidAppJwt => "Invalid AppJWT",
            Self::InvalidConsumerJws => "Invalid ConsumerJWS",
            Self::MissingConsumerJws => "ConsumerJWS is missing",
            Self::MissingAppJwt => "AppJWT is missing",
            Self::NotPermitted => "Not permitted",
            Self::NotFound => "Not found",
            Self::KeyReused => "Idempotency key reused",
            Self::OtherEpoch => "Other log",
            Self::OtherRevision => "Other revision",
            Self::TooLarge => "Too large",
            Self::TooMany => "Too many requests",
            Self::Internal => "Internal error",
            Self::Unknown => "Outcome unknown",
            Self::Busy => "Busy",
            Self::DiskFull => "Disk full",
        }
    }

    /// Whether the same request may succeed later, unchanged but for a fresh token.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::InvalidAppJwt | Self::MissingAppJwt | Self::TooMany | Self::Internal | Self::Unknown | Self::Busy | Self::DiskFull
        )
    }

    /// Whether it is certain that nothing was written.
    #[must_use]
    pub fn had_no_effect(self) -> bool {
        !matches!(self, Self::Internal | Self::Unknown)
    }

    /// Whether a fresh AppJWT is what the client needs.
    #[must_use]
    pub fn wants_app_token(self) -> bool {
        matches!(self, Self::InvalidAppJwt | Self::MissingAppJwt)
    }
}

/// Why the gateway closes a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// The peer closed first; its close is answered.
    Normal,
    /// The peer sent nothing for the idle time.
    Idle,
    /// The frames break the protocol.
    Protocol,
    /// Binary frames are not spoken here.
    Binary,
    /// A text frame is not UTF-8.
    NotUtf8,
    /// Too many bad frames in a row, or no identification, or no end of a message, in time.
    Policy,
    /// A message is over the limit.
    TooBig,
    /// The gateway is restarting.
    Restart,
    /// The token has expired, is invalid or was revoked.
    Token,
    /// The peer took no write in time.
    SlowConsumer,
    /// The position that the peer came with is of another log.
    OtherLog,
    /// Somebody who tests a client asked for this number.
    OnDemand(u16),
}

/// What a client should do after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Come back after a second or more, with jitter, and resume by number.
    Reconnect,
    /// Fetch a new token first, then come back and resume.
    NewToken,
    /// Mend the client first.
    Fix,
    /// Come back without the position.
    Afresh,
    /// The client ended it itself.
    Done,
}

impl CloseCode {
    /// Every code that is sent of itself.
    pub const ALL: &[Self] = &[
        Self::Normal,
        Self::Idle,
        Self::Protocol,
        Self::Binary,
        Self::NotUtf8,
        Self::Policy,
        Self::TooBig,
        Self::Restart,
        Self::Token,
        Self::SlowConsumer,
        Self::OtherLog,
    ];

    /// The number in the close frame.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Idle => 1001,
            Self::Protocol => 1002,
            Self::Binary => 1003,
            Self::NotUtf8 => 1007,
            Self::Policy => 1008,
            Self::TooBig => 1009,
            Self::Restart => 1012,
            Self::Token => 4401,
            Self::SlowConsumer => 4408,
            Self::OtherLog => 4409,
            Self::OnDemand(number) => number,
        }
    }

    /// The reason in the close frame, shorter than 123 bytes.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::Idle => "idle: send anything, or answer pings",
            Self::Protocol => "protocol error",
            Self::Binary => "binary frames are not supported; send text",
            Self::NotUtf8 => "text is not UTF-8",
            Self::Policy => "too many bad frames, or no InitConnection or no end of a message in time",
            Self::TooBig => "message too big",
            Self::Restart => "restarting: reconnect and resume",
            Self::Token => "token expired, invalid or revoked",
            Self::OtherLog => "the position is of another log: come back without it",
            Self::SlowConsumer => "slow consumer: reconnect and resume by number",
            Self::OnDemand(_) => "on demand, by /admin/v1/faults",
        }
    }

    /// What the client should do.
    #[must_use]
    pub fn advice(self) -> Advice {
        match self {
            Self::Normal => Advice::Done,
            Self::Protocol | Self::Binary | Self::NotUtf8 | Self::Policy | Self::TooBig => Advice::Fix,
            Self::Idle | Self::Restart | Self::SlowConsumer | Self::OnDemand(_) => Advice::Reconnect,
            Self::Token => Advice::NewToken,
            Self::OtherLog => Advice::Afresh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_are_distinct_and_start_with_a_status() {
        let numbers: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(numbers.len(), ErrorCode::ALL.len());
        assert!(ErrorCode::ALL.iter().all(|code| (400..600).contains(&code.status())));
        let closes: HashSet<_> = CloseCode::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(closes.len(), CloseCode::ALL.len());
        assert!(CloseCode::ALL.iter().all(|code| code.reason().len() < 123));
    }
}
