//! The port plan of instances 1 to 16.

use std::fmt;

/// A gateway instance's number, 1 to 16.
///
/// Source: Microsoft Learn, "Plan for the cloud management gateway": one to sixteen VM instances.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Instance(u8);

/// An instance number outside 1 to 16. The caller's mistake.
#[derive(Debug, thiserror::Error, Eq, PartialEq)]
#[error("instance {0} does not exist; a gateway has instances 1 to 16")]
pub struct InstanceOutOfRange(pub u64);

impl Instance {
    /// The lowest instance.
    pub const FIRST: Self = Self(1);
    /// The highest instance number.
    pub const MAX: u8 = 16;

    /// The instance with this number.
    ///
    /// # Errors
    ///
    /// [`InstanceOutOfRange`] unless `number` is 1 to 16.
    pub fn new(number: u64) -> Result<Self, InstanceOutOfRange> {
        match u8::try_from(number) {
            Ok(small @ 1..=Self::MAX) => Ok(Self(small)),
            _ => Err(InstanceOutOfRange(number)),
        }
    }

    /// Instances 1 to `count`, in order. A `count` above 16 yields sixteen.
    pub fn first(count: u8) -> impl Iterator<Item = Self> {
        (1..=count.min(Self::MAX)).map(Self)
    }

    /// The number, 1 to 16.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which port of an instance serves what.
///
/// Source: Microsoft Learn, "CMG data flow", table of required ports: TCP-TLS 10140 to 10155 and
/// HTTPS 10124 to 10139, one per instance; HTTPS 443 if there is one instance. Our choice: the
/// bases are configurable, so that a site runs unprivileged anywhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortPlan {
    /// Port of instance 1's TCP-TLS link listener. Default 10140.
    pub tcp_tls_base: u16,
    /// Port of instance 1's HTTPS link listener, if there are two instances or more. Default 10124.
    pub https_base: u16,
    /// HTTPS port of a gateway of one instance, which links and clients share. Default 443.
    pub https_single: u16,
}

impl Default for PortPlan {
    fn default() -> Self {
        Self { tcp_tls_base: 10_140, https_base: 10_124, https_single: 443 }
    }
}

impl PortPlan {
    /// The TCP-TLS link port of `instance`; `None` if the base is so high that it would pass 65535.
    pub fn tcp_tls(self, instance: Instance) -> Option<u16> {
        self.tcp_tls_base.checked_add(u16::from(instance.number()) - 1)
    }

    /// The HTTPS port for links of `instance`, one of `instances`; `None` if the base is so high
    /// that it would pass 65535.
    pub fn https(self, instance: Instance, instances: u8) -> Option<u16> {
        if instances == 1 {
            return Some(self.https_single);
        }
        self.https_base.checked_add(u16::from(instance.number()) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_plan_covers_10140_to_10155() {
        let ports: Vec<_> =
            Instance::first(16).map(|i| PortPlan::default().tcp_tls(i).unwrap()).collect();
        assert_eq!(ports, (10_140..=10_155).collect::<Vec<_>>());
    }

    #[test]
    fn https_is_443_for_one_instance_and_10124_to_10139_for_more() {
        let plan = PortPlan::default();
        assert_eq!(plan.https(Instance::FIRST, 1), Some(443));
        for instances in [2, 16] {
            let ports = Instance::first(instances).map(|i| plan.https(i, instances).unwrap());
            let last = 10_123 + u16::from(instances);
            assert_eq!(ports.collect::<Vec<_>>(), (10_124..=last).collect::<Vec<_>>());
        }
    }

    #[test]
    fn instances_outside_1_to_16_are_refused() {
        assert_eq!(Instance::new(0), Err(InstanceOutOfRange(0)));
        assert_eq!(Instance::new(1).unwrap().number(), 1);
        assert_eq!(Instance::new(16).unwrap().number(), 16);
        assert_eq!(Instance::new(17), Err(InstanceOutOfRange(17)));
        assert_eq!(Instance::new(257), Err(InstanceOutOfRange(257)));
    }

    #[test]
    fn a_base_that_would_pass_the_last_port_has_no_such_port() {
        let plan = PortPlan { tcp_tls_base: 65_535, https_base: 65_535, ..PortPlan::default() };
        assert_eq!(plan.tcp_tls(Instance::FIRST), Some(65_535));
        assert_eq!(plan.tcp_tls(Instance::new(2).unwrap()), None);
        assert_eq!(plan.https(Instance::FIRST, 2), Some(65_535));
        assert_eq!(plan.https(Instance::new(2).unwrap(), 2), None);
    }
}
