use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A secret of agents; the same for the same seed.
fn secret(seed: u8) -> AgentSecret {
    AgentSecret::new([seed; 32]).unwrap()
}

fn agent(current: u8, previous: Option<u8>) -> AgentKeys {
    AgentKeys::new(&secret(current), previous.map(secret).as_ref()).unwrap()
}

fn edge(current: u8, previous: Option<u8>) -> EdgeKeys {
    let previous = previous.map(secret);
    EdgeKeys::new(secret(current).edge(), previous.as_ref().map(AgentSecret::edge)).unwrap()
}

/// What becomes of a handshake, and of a byte in each direction after it.
async fn meet(agent: &AgentKeys, edge: &EdgeKeys) -> (io::Result<()>, io::Result<()>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let accepted = async {
        let mut stream = agent.accept(far).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN));
        stream.write_all(b"a").await?;
        stream.read_u8().await.map(|byte| assert_eq!(byte, b'e'))
    };
    let connected = async {
        let mut stream = edge.connect(near).await?;
        stream.write_all(b"e").await?;
        stream.read_u8().await.map(|byte| assert_eq!(byte, b'a'))
    };
    tokio::join!(accepted, connected)
}

#[tokio::test]
async fn an_agent_and_an_edge_of_one_pair_speak() {
    let (accepted, connected) = meet(&agent(1, None), &edge(1, None)).await;
    accepted.unwrap();
    connected.unwrap();
}
