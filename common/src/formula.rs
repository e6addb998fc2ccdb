//! Placeholder until the real module is merged.
#![expect(missing_docs)]
#[derive(Clone, Debug, PartialEq)]
pub struct Formula(String);
impl Formula {
    pub fn source(&self) -> &str {
        &self.0
    }
}
