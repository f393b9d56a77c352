//! What one side of a link is configured with.

use std::time::Duration;

use super::frame::FrameLimits;
use super::memory::MemoryBudget;

/// Settings of one side of a link. The defaults suit a gateway link.
///
/// Worst-case receive memory of a link is [`Config::receive_memory_max`] for payload, plus ten
/// blocks of `head_max` for each stream that this side opens (eight interim heads, the head and
/// trailers, all of which may wait to be read) and two for each that the peer opens (the head and
/// trailers), plus the 8 MiB of read buffers that unread payload may pin beyond its own size.
///
/// Times range from 1 ms to 24 h.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Octets reserved for each stream, and granted to it from its first octet on: its floor.
    /// Default 32,752, two full frames, so that no window ends in a frame of a few octets. Range
    /// 1 KiB to 16 MiB.
    pub stream_window: u32,
    /// Payload octets that all streams of the link may hold together. Default 64 MiB. What the
    /// floors leave over is the pool that busy windows grow into.
    pub receive_memory_max: u64,
    /// The budget that this link shares with others, and leases its floors and growth from. Default
    /// none: `receive_memory_max` is all that bounds the link.
    ///
    /// With one, a link begins with the floors of up to 128 streams each way, and leases more as
    /// streams are opened.
    pub memory: Option<MemoryBudget>,
    /// Streams that the peer may have open at once. Default 1,024, range 0 to 16,384.
    pub accept_streams_max: u32,
    /// Streams that this side has open at once, whatever the peer would allow. Default 16.
    pub open_streams_max: u32,
    /// Longest DATA payload taken, in octets. Default 16,376, so that header and payload make
    /// exactly one TLS record. Range 256 to 65,528.
    pub payload_max: u32,
    /// Longest head block taken, in octets. Default 16,376, range 256 to 65,528.
    pub head_max: u32,
    /// Octets that may wait in one stream's send queue, however many have something to send.
    /// Default 64 KiB.
    pub send_queue_max: u32,
    /// Octets that the streams with something to send share instead, if that is more for each: a
    /// few busy streams then wake their writers less often. Default 1 MiB, range 0 to 64 MiB.
    pub send_queue_shared: u32,
    /// A PING is sent when nothing arrived for this long while streams are open. Default 5 s.
    pub keep_alive_busy: Duration,
    /// The same while no stream is open. Default 15 s.
    pub keep_alive_idle: Duration,
    /// The peer is given up when nothing arrived for this long after a PING. Default 10 s, so that
    /// a dead peer is noticed within 15 s while streams are open.
    pub ping_timeout: Duration,
    /// A stream is reset when its consumer took nothing for this long while payload waited. Judged
    /// at every quarter of it, so it may take that much longer. Default 60 s.
    pub consumer_timeout: Duration,
    /// The peer must have sent its hello within this time. Default 5 s.
    pub hello_timeout: Duration,
    /// This side's name in the hello; at most 128 octets. Default empty.
    pub name: String,
    /// Gateway instance number, 0 if this side is none. Default 0.
    pub instance: u16,
    /// Rises with each start of this side. Default 0.
    pub epoch: u64,
    /// Names the link among this side's own: in the upper 32 bits which of its links to the peer,
    /// in the lower how often that one was dialled before. A later one takes the place of an
    /// earlier one that may be half-open. A random number names it too. Default 0.
    pub link: u64,
    /// The site that this side stands in; at most 64 octets. Default empty: none.
    pub site: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stream_window: 2 * 16_376,
            receive_memory_max: 64 << 20,
            memory: None,
            accept_streams_max: 1024,
            open_streams_max: 16,
            payload_max: 16_376,
            head_max: 16_376,
            send_queue_max: 64 << 10,
            send_queue_shared: 1 << 20,
            keep_alive_busy: Duration::from_secs(5),
            keep_alive_idle: Duration::from_secs(15),
            ping_timeout: Duration::from_secs(10),
            consumer_timeout: Duration::from_mins(1),
            hello_timeout: Duration::from_secs(5),
            name: String::new(),
            instance: 0,
            epoch: 0,
            link: 0,
            site: String::new(),
        }
    }
}

/// A setting outside its range. The caller's mistake.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number outside its range.
    #[error("{setting} is {value}, outside {min} to {max}")]
    OutOfRange {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        value: u64,
        /// Lowest allowed.
        min: u64,
        /// Highest allowed.
        max: u64,
    },
    /// The name holds a control character, which a peer refuses.
    #[error("name holds a control character")]
    NameHasControl,
    /// The name of the site holds a control character, which a peer refuses.
    #[error("site holds a control character")]
    SiteHasControl,
    /// The floors alone exceed the memory of the link.
    #[error(
        "{streams} streams of {stream_window} octets need more than receive_memory_max, {memory}; \
         allow fewer streams, a smaller window or more memory"
    )]
    FloorsExceedMemory {
        /// Streams of both sides together.
        streams: u64,
        /// Octets reserved for each.
        stream_window: u32,
        /// Octets there are.
        memory: u64,
    },
}

/// Octets that may wait in the send queues of all streams of a link, beyond one chunk for each.
const SEND_QUEUES_MAX: u32 = 64 << 20;

impl Config {
    /// The defaults for a link of `accept_streams_max` and `open_streams_max`. Its floors have room
    /// in `receive_memory_max`, beside a pool as large as that of the default link; its send queues
    /// hold 64 MiB together, whatever the number, and so at most 64 KiB each.
    ///
    /// A stream that carries nothing costs neither: floors are promises, and are leased of
    /// [`Config::memory`] when streams are opened.
    #[must_use]
    pub fn for_streams(accept_streams_max: u32, open_streams_max: u32) -> Self {
        let or = Self::default();
        let pool = or.receive_memory_max - or.floors();
        let most = accept_streams_max.max(open_streams_max).max(1);
        let send_queue_max = (SEND_QUEUES_MAX / most).clamp(1, or.send_queue_max);
        let sized = Self { accept_streams_max, open_streams_max, send_queue_max, ..or };
        Self { receive_memory_max: sized.floors() + pool, ..sized }
    }

    /// Checks every range, and that all floors fit the memory: this is what makes sure that the
    /// reader never has to wait for a consumer.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first setting that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        range("stream_window", self.stream_window.into(), 1 << 10, 1 << 24)?;
        range("accept_streams_max", self.accept_streams_max.into(), 0, 16_384)?;
        range("open_streams_max", self.open_streams_max.into(), 0, 16_384)?;
        range("payload_max", self.payload_max.into(), 256, 65_528)?;
        range("head_max", self.head_max.into(), 256, 65_528)?;
        range("send_queue_max", self.send_queue_max.into(), 1, 1 << 24)?;
        range("send_queue_shared", self.send_queue_shared.into(), 0, 1 << 26)?;
        time("keep_alive_busy in ms", self.keep_alive_busy)?;
        time("keep_alive_idle in ms", self.keep_alive_idle)?;
        time("ping_timeout in ms", self.ping_timeout)?;
        time("consumer_timeout in ms", self.consumer_timeout)?;
        time("hello_timeout in ms", self.hello_timeout)?;
        range("name", self.name.len() as u64, 0, super::hello::HELLO_TEXT_MAX as u64)?;
        if self.name.chars().any(char::is_control) {
            return Err(ConfigError::NameHasControl);
        }
        range("site", self.site.len() as u64, 0, super::hello::HELLO_SITE_MAX as u64)?;
        if self.site.chars().any(char::is_control) {
            return Err(ConfigError::SiteHasControl);
        }
        if self.floors() > self.receive_memory_max {
            return Err(ConfigError::FloorsExceedMemory {
                streams: u64::from(self.accept_streams_max) + u64::from(self.open_streams_max),
                stream_window: self.stream_window,
                memory: self.receive_memory_max,
            });
        }
        Ok(())
    }

    /// Octets reserved for the floors of all streams both sides may have open.
    pub(super) fn floors(&self) -> u64 {
        let streams = u64::from(self.accept_streams_max) + u64::from(self.open_streams_max);
        streams * u64::from(self.stream_window)
    }

    pub(super) fn frame_limits(&self) -> FrameLimits {
        FrameLimits { payload_max: self.payload_max, head_max: self.head_max }
    }
}

/// A day at most: a deadline beyond what the clock can hold would panic.
fn time(setting: &'static str, value: Duration) -> Result<(), ConfigError> {
    let (min, max) = (Duration::from_millis(1), Duration::from_hours(24));
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (value, min, max) = (millis(value), millis(min), millis(max));
    Err(ConfigError::OutOfRange { setting, value, min, max })
}

fn range(setting: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange { setting, value, min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    // [MUX-37] +-
    #[test]
    fn floors_may_fill_the_memory_and_not_exceed_it() {
        let floors = (1024 + 16) * 2 * 16_376;
        let exact = Config { receive_memory_max: floors, ..Config::default() };
        assert_eq!(exact.validate(), Ok(()));
        let short = Config { receive_memory_max: floors - 1, ..Config::default() };
        assert!(matches!(short.validate(), Err(ConfigError::FloorsExceedMemory { .. })));
    }

    // [MUX-37] +
    #[test]
    fn a_link_for_so_many_streams_has_room_for_their_floors_and_bounded_queues() {
        let usual = Config::for_streams(1024, 16);
        assert_eq!(usual, Config::default());
        let pool = usual.receive_memory_max - usual.floors();
        for (streams, queue) in [(0, 64 << 10), (1023, 64 << 10), (1025, 65_472), (8192, 8 << 10)] {
            let config = Config::for_streams(16, streams);
            assert_eq!(config.validate(), Ok(()));
            assert_eq!(config.receive_memory_max - config.floors(), pool);
            assert_eq!(config.send_queue_max, queue, "{streams}");
        }
        assert_eq!(Config::for_streams(16_384, 16).validate(), Ok(()));
        assert!(Config::for_streams(16_385, 16).validate().is_err());
    }

    #[test]
    fn each_setting_is_held_to_its_range_on_both_sides() {
        type Set = fn(&mut Config, u32);
        let settings: [(Set, u32, u32); 7] = [
            (|c, v| c.send_queue_max = v, 1, 1 << 24),
            (|c, v| c.send_queue_shared = v, 0, 1 << 26),
            (|c, v| c.stream_window = v, 1 << 10, 1 << 24),
            (|c, v| c.accept_streams_max = v, 0, 16_384),
            (|c, v| c.open_streams_max = v, 0, 16_384),
            (|c, v| c.payload_max = v, 256, 65_528),
            (|c, v| c.head_max = v, 256, 65_528),
        ];
        for (set, min, max) in settings {
            let verdict = |value| {
                let mut config = Config { receive_memory_max: u64::MAX, ..Config::default() };
                set(&mut config, value);
                config.validate()
            };
            assert_eq!(verdict(min), Ok(()));
            assert_eq!(verdict(max), Ok(()));
            assert!(min == 0 || verdict(min - 1).is_err());
            assert!(verdict(max + 1).is_err());
        }
    }

    #[test]
    fn times_are_held_to_their_range_on_both_sides() {
        type Set = fn(&mut Config, Duration);
        let settings: [Set; 5] = [
            |c, v| c.consumer_timeout = v,
            |c, v| c.keep_alive_busy = v,
            |c, v| c.keep_alive_idle = v,
            |c, v| c.ping_timeout = v,
            |c, v| c.hello_timeout = v,
        ];
        let (min, max) = (Duration::from_millis(1), Duration::from_hours(24));
        for set in settings {
            let verdict = |value| {
                let mut config = Config::default();
                set(&mut config, value);
                config.validate()
            };
            assert_eq!(verdict(min), Ok(()));
            assert_eq!(verdict(max), Ok(()));
            assert!(verdict(Duration::from_micros(999)).is_err());
            assert!(verdict(max + min).is_err());
            assert!(verdict(Duration::MAX).is_err(), "a deadline that no clock can hold");
        }
    }

    #[test]
    fn a_name_that_the_peer_would_refuse_is_refused_here() {
        let named = |name: &str| Config { name: name.to_owned(), ..Config::default() }.validate();
        assert_eq!(named("cp-1 (Zürich)"), Ok(()));
        assert_eq!(named("cp-1\n"), Err(ConfigError::NameHasControl));
        let sited = |site: &str| Config { site: site.to_owned(), ..Config::default() }.validate();
        assert_eq!(sited(&"s".repeat(64)), Ok(()));
        assert!(matches!(sited(&"s".repeat(65)), Err(ConfigError::OutOfRange { .. })));
        assert_eq!(sited("a\tb"), Err(ConfigError::SiteHasControl));
    }
}
