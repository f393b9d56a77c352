//! Links for the tests of this room.

use proptest::collection::vec;
use proptest::prelude::*;

use super::LinkView;

/// Idle links, numbered from 0, of connection points with so many links each, numbered from 0.
pub(super) fn links_of(site: &[usize]) -> Vec<LinkView> {
    let points = (0..).zip(site).flat_map(|(point, links)| std::iter::repeat_n(point, *links));
    (0..).zip(points).map(|(id, point)| LinkView::new(id, point, 0)).collect()
}

/// How many links each of a few connection points has.
pub(super) fn site() -> impl Strategy<Value = Vec<usize>> {
    vec(1usize..5, 1..7)
}

/// Links with something to do.
pub(super) fn loaded_site() -> impl Strategy<Value = Vec<LinkView>> {
    (site(), vec(0u32..6, 30)).prop_map(|(site, loads)| {
        let mut links = links_of(&site);
        for (link, load) in links.iter_mut().zip(loads) {
            link.in_flight = load;
        }
        links
    })
}

/// How often each of `links` is among `picked`.
pub(super) fn counts(links: &[LinkView], picked: &[LinkView]) -> Vec<usize> {
    let of = |id| picked.iter().filter(|link| link.id == id).count();
    links.iter().map(|link| of(link.id)).collect()
}
