//! Links that come over QUIC: they are admitted as any other.

use tokio::sync::mpsc;

use crate::link;
use crate::mux::{Config, Side};
use crate::transport::{
    PeerIdentity, QUIC_LINK_MEMORY, QUIC_STREAM_WINDOW, QUIC_STREAMS_MAX, QuicArrival,
    QuicConnection, QuicListener, Rung, quic_chain,
};

use super::newcomer::Newcomer;
use super::serve::{Gateway, LinkRefused, PendingLink};

impl Gateway {
    /// Takes peers that begin a QUIC connection, and hands them over.
    pub(super) async fn accept_quic(
        &self,
        listener: &QuicListener,
        hand_over: &mpsc::Sender<PendingLink>,
    ) {
        loop {
            let arrival = listener.accept().await;
            // Over TCP the kernel has seen to forged addresses.
            let from = arrival.from();
            if !arrival.is_validated() && self.is_to_be_asked_back(from) {
                arrival.ask_back();
                continue;
            }
            let (gateway, newcomer) = (self.clone(), self.count_in_link(from));
            let serve = async move { gateway.serve_quic(arrival, newcomer?).await };
            let link = PendingLink::new(from, serve);
            // Nobody takes it when the instance stops.
            let _ = hand_over.send(link).await;
        }
    }

    async fn serve_quic(
        &self,
        arrival: QuicArrival,
        newcomer: Newcomer,
    ) -> Result<(), LinkRefused> {
        let handshake = |tls, limit| arrival.accept(tls, limit);
        let begin = |connection, config: Config| {
            let config = Config {
                stream_window: QUIC_STREAM_WINDOW,
                receive_memory_max: QUIC_LINK_MEMORY,
                open_streams_max: config.open_streams_max.min(QUIC_STREAMS_MAX),
                send_queue_max: Config::default().send_queue_max,
                ..config
            };
            link::new_quic(connection, Side::Listener, config)
        };
        let identify = |it: &QuicConnection| PeerIdentity::of_dialler(&quic_chain(it));
        self.admit(Rung::Quic, Some(newcomer), handshake, identify, begin).await
    }
}
