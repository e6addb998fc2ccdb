//! Grids that come with the contents of their files: submitted ones, and those
//! that a store has kept. No path is opened here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::canon::NUMERICS_VERSION;
use common::diagnostic::Mistakes;
use common::grid::{Grid, Uploaded};
use common::ids::BlobId;
use common::math::NUMERIC_LEVEL;

use crate::store::{Store, StoreError, StoredSweep, SweepText};
use crate::sweep::{Contents, DataTable, sweep_id};

/// A grid file and what it names.
#[derive(Clone, Debug, Default)]
pub struct Submission {
    /// What mistakes are reported under.
    pub name: String,
    /// The grid file.
    pub text: String,
    /// Contents by the paths that the grid writes.
    pub files: BTreeMap<String, Bytes>,
}

/// Why a kept grid cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A content is gone.
    #[error("the store has no content for `{path}` of the sweep `{sweep}`")]
    Lost {
        /// The sweep's name.
        sweep: String,
        /// The file.
        path: String,
    },
    /// This version of the program reads the grid otherwise.
    #[error("the sweep `{sweep}` cannot be carried out by this version: {why}")]
    Unreadable {
        /// The sweep's name.
        sweep: String,
        /// The mistakes.
        why: String,
    },
}

impl Submission {
    /// Reads the grid and checks its data; may take a while.
    ///
    /// # Errors
    /// All mistakes, as text for people.
    pub fn read(self) -> Result<(Grid, DataTable), String> {
        let shown = |mistakes: Mistakes| mistakes.render(false);
        let uploaded = Uploaded {
            contents: self
                .files
                .iter()
                .map(|(path, content)| (path.clone(), Arc::from(content.as_ref())))
                .collect(),
        };
        let grid = Grid::load(&self.name, self.text.as_bytes(), &uploaded).map_err(shown)?;
        let mut contents = Contents::new();
        for file in grid.files() {
            if let Some(content) = self.files.get(&file.path) {
                contents.insert(file.id.to_string(), content.clone());
            }
        }
        let mut data = DataTable::new(contents);
        grid.check_data(|cell| data.facts(cell)).map_err(shown)?;
        Ok((grid, data))
    }

    /// The same for a grid that comes from outside: what a store has kept is carried on even where
    /// a given point is none of its network, and such tasks fail.
    ///
    /// # Errors
    /// All mistakes, as text for people.
    pub fn read_new(self) -> Result<(Grid, DataTable), String> {
        let (grid, mut data) = self.read()?;
        let checked = grid.check_points(|cell, point| data.fits(cell, point));
        checked.map_err(|mistakes| mistakes.render(false))?;
        Ok((grid, data))
    }

    /// The grid of a sweep that a store has kept.
    ///
    /// # Errors
    /// [`KeptError`] when contents are missing or the store cannot be read.
    pub async fn kept<S: Store>(store: &S, sweep: &StoredSweep) -> Result<Self, KeptError> {
        let mut files = BTreeMap::new();
        for (path, sha256) in &sweep.text.files {
            let lost = || KeptError::Lost {
                sweep: sweep.text.name.clone(),
                path: path.clone(),
            };
            let id: BlobId = sha256.parse().map_err(|_| lost())?;
            let content = store.blob(id).await?.ok_or_else(lost)?;
            files.insert(path.clone(), content);
        }
        Ok(Self {
            name: sweep.text.name.clone(),
            text: sweep.text.grid.clone(),
            files,
        })
    }
}

/// Reads the grid of a kept sweep, off the threads that serve.
///
/// # Errors
/// [`KeptError`]: also when this version computes other numbers, or reads the
/// grid as another one.
pub async fn reopen<S: Store>(
    store: &S,
    sweep: &StoredSweep,
) -> Result<(Arc<Grid>, DataTable), KeptError> {
    let unreadable = |why: String| KeptError::Unreadable {
        sweep: sweep.text.name.clone(),
        why,
    };
    if sweep.text.numerics_version != NUMERICS_VERSION {
        return Err(unreadable(format!(
            "it was begun with numerics {}, this program has {NUMERICS_VERSION}; submit the grid \
             again to compute it anew",
            sweep.text.numerics_version
        )));
    }
    let submission = Submission::kept(store, sweep).await?;
    let read = tokio::task::spawn_blocking(move || submission.read()).await;
    let (grid, data) = match read {
        Ok(read) => read.map_err(unreadable)?,
        Err(error) => return Err(unreadable(error.to_string())),
    };
    if sweep_id(&grid) != sweep.text.id {
        return Err(unreadable("it reads the grid as another sweep".to_owned()));
    }
    Ok((Arc::new(grid), data))
}

/// Puts a grid and its files into the store, or finds them there.
///
/// # Errors
/// When they could not be made durable.
pub async fn add<S: Store>(
    store: &S,
    grid: &Grid,
    contents: &Contents,
    priority: i32,
) -> Result<StoredSweep, StoreError> {
    for file in grid.files() {
        if let Some(content) = contents.get(&file.id.to_string()) {
            store.put_blob(file.id, content.clone()).await?;
        }
    }
    let text = SweepText {
        id: sweep_id(grid),
        name: grid.name().to_owned(),
        grid: grid.source().text.clone(),
        files: grid
            .files()
            .iter()
            .map(|f| (f.path.clone(), f.id.to_string()))
            .collect(),
        priority,
        numerics_version: NUMERICS_VERSION,
        numeric_level: NUMERIC_LEVEL.to_owned(),
    };
    store.add_sweep(text).await
}
