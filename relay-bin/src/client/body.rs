//! Bodies that are read from a file as the connection takes them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use tokio::fs::File;
use tokio::io::{AsyncRead as _, ReadBuf};

/// Octets that are read at once.
const CHUNK: usize = 64 * 1024;

/// The body of a request.
pub(crate) type RequestBody = BoxBody<Bytes, io::Error>;

/// How many octets of a body were taken: what tells a slow upload from one that stands still.
pub(crate) type Taken = Arc<AtomicU64>;

/// No octets.
pub(crate) fn empty() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// These octets.
pub(super) fn whole(octets: impl Into<Bytes>) -> RequestBody {
    Full::new(octets.into()).map_err(|never| match never {}).boxed()
}

/// The next `left` octets of a file.
pub(super) struct FileBody {
    file: File,
    left: u64,
    taken: Taken,
}

impl FileBody {
    pub(super) fn new(file: File, left: u64, taken: Taken) -> Self {
        Self { file, left, taken }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let wanted = usize::try_from(this.left).unwrap_or(CHUNK).min(CHUNK);
        if wanted == 0 {
            return Poll::Ready(None);
        }
        let mut chunk = BytesMut::zeroed(wanted);
        let mut buffer = ReadBuf::new(&mut chunk);
        if let Err(error) = ready!(Pin::new(&mut this.file).poll_read(context, &mut buffer)) {
            return Poll::Ready(Some(Err(error)));
        }
        let read = buffer.filled().len();
        if read == 0 {
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter");
            return Poll::Ready(Some(Err(error)));
        }
        chunk.truncate(read);
        this.left -= read as u64;
        this.taken.fetch_add(read as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(chunk.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_of_a_file_is_the_body_and_a_shorter_file_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        std::fs::write(&path, vec![7; CHUNK + 10]).unwrap();
        let taken = Taken::default();
        let body = |left| {
            let (path, taken) = (path.clone(), Arc::clone(&taken));
            async move { FileBody::new(File::open(path).await.unwrap(), left, taken) }
        };
        let part = body(CHUNK as u64 + 3).await;
        assert_eq!(part.size_hint().exact(), Some(CHUNK as u64 + 3));
        let read = part.collect().await.unwrap().to_bytes();
        assert_eq!(read, vec![7; CHUNK + 3]);
        assert_eq!(taken.load(Ordering::Relaxed), CHUNK as u64 + 3);
        let error = body(CHUNK as u64 + 11).await.collect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
