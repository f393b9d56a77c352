//! The methods of authentication, and which of them count, in which order.

use std::fmt;

/// A way for a client to show who it is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Method {
    /// A token of an onboarded Entra tenant.
    Entra,
    /// A certificate of the site's public key infrastructure, in TLS.
    Certificate,
    /// A token that the site itself has issued.
    SiteToken,
}

impl Method {
    /// All of them, in the order in which they are tried by default.
    // Source: Microsoft Learn, "Configure client authentication for cloud management gateway".
    pub const ALL: [Self; 3] = [Self::Entra, Self::Certificate, Self::SiteToken];

    /// Its name in configurations, logs and counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entra => "entra",
            Self::Certificate => "certificate",
            Self::SiteToken => "site-token",
        }
    }
}

/// Its name.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Some methods, each at most once, in the order in which they are tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Methods {
    listed: [Option<Method>; Method::ALL.len()],
}

/// A list of methods that cannot be one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MethodsError {
    /// Nobody could ever show who it is. Publish the endpoint to nobody by leaving it out instead.
    #[error("at least one method is needed: entra, certificate or site-token")]
    Empty,
    /// A method is tried once or not at all.
    #[error("method {0} is listed twice")]
    Twice(Method),
}

impl Methods {
    /// Those of `order`.
    ///
    /// # Errors
    ///
    /// [`MethodsError`], if there is none, or one stands there twice.
    pub fn new(order: &[Method]) -> Result<Self, MethodsError> {
        for (place, method) in order.iter().enumerate() {
            if order.iter().take(place).any(|before| before == method) {
                return Err(MethodsError::Twice(*method));
            }
        }
        let mut listed = [None; Method::ALL.len()];
        // No more than there is room for: each is there once.
        for (slot, method) in listed.iter_mut().zip(order) {
            *slot = Some(*method);
        }
        if order.is_empty() { Err(MethodsError::Empty) } else { Ok(Self { listed }) }
    }

    /// The methods, in order.
    pub fn iter(&self) -> impl Iterator<Item = Method> {
        self.listed.into_iter().flatten()
    }

    /// Whether `method` is one of them.
    pub fn contains(&self, method: Method) -> bool {
        self.iter().any(|listed| listed == method)
    }

    /// Those that are in `allowed` too, in the order of `self`; `None` if there is none.
    #[must_use]
    pub fn within(&self, allowed: &Self) -> Option<Self> {
        let both: Vec<_> = self.iter().filter(|method| allowed.contains(*method)).collect();
        Self::new(&both).ok()
    }
}

/// All methods, in the order of [`Method::ALL`].
impl Default for Methods {
    fn default() -> Self {
        Self { listed: Method::ALL.map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every list of up to four methods.
    fn lists() -> Vec<Vec<Method>> {
        let mut lists = vec![Vec::new()];
        for _ in 0..4 {
            let longer: Vec<Vec<Method>> = lists
                .iter()
                .flat_map(|list| Method::ALL.map(|next| [&list[..], &[next]].concat()))
                .collect();
            lists.extend(longer);
        }
        lists
    }

    #[test]
    fn a_list_holds_each_method_at_most_once_and_at_least_one() {
        for list in lists() {
            let mut once = list.clone();
            once.sort();
            once.dedup();
            match Methods::new(&list) {
                Ok(methods) => {
                    assert_eq!(methods.iter().collect::<Vec<_>>(), list);
                    assert_eq!(once.len(), list.len());
                }
                Err(MethodsError::Empty) => assert!(list.is_empty()),
                Err(MethodsError::Twice(method)) => {
                    assert!(list.iter().filter(|it| **it == method).count() > 1, "{list:?}");
                }
            }
        }
        assert_eq!(Methods::default(), Methods::new(&Method::ALL).unwrap());
    }

    #[test]
    fn of_two_lists_the_methods_in_both_are_left_in_the_order_of_the_first() {
        let lists: Vec<_> = lists().iter().filter_map(|list| Methods::new(list).ok()).collect();
        for first in &lists {
            for second in &lists {
                let both: Vec<_> = first.iter().filter(|it| second.contains(*it)).collect();
                let within = first.within(second);
                assert_eq!(within.map_or(vec![], |it| it.iter().collect()), both);
            }
        }
    }
}
