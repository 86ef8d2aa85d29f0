//! Simulated kernel (arriving).
/// World.
#[derive(Debug)]
pub struct SimWorld;
/// Options.
#[derive(Debug)]
pub struct SimOptions;
impl SimWorld {
    pub(crate) fn driver(&self, _: u16, _: usize) -> Box<dyn super::Driver> {
        unreachable!()
    }
}
