-- One row per start of a coordinator on this store.
CREATE TABLE epochs (
    epoch INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    program_version TEXT NOT NULL,
    -- Address that workers on other machines could reach; NULL if there was none.
    listen TEXT,
    started_at INTEGER NOT NULL
) STRICT;

CREATE TABLE workers (
    worker INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    program_version TEXT NOT NULL,
    slots INTEGER NOT NULL,
    threads_per_slot INTEGER NOT NULL,
    first_seen INTEGER NOT NULL
) STRICT;

CREATE TABLE sweeps (
    sweep INTEGER PRIMARY KEY,
    -- What makes it the same sweep: hash of grid and numeric level.
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    grid TEXT NOT NULL,
    -- The files that the grid names: a JSON object from paths to the SHA-256 of blobs.
    files TEXT NOT NULL,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    numerics_version INTEGER NOT NULL,
    numeric_level TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- One row per recorded task, in the order of recording. The unique index on
-- the task is what makes recording happen exactly once.
CREATE TABLE results (
    result INTEGER PRIMARY KEY,
    task BLOB NOT NULL,
    sweep INTEGER NOT NULL,
    position INTEGER NOT NULL,
    baseline INTEGER NOT NULL,
    worker INTEGER NOT NULL,
    -- Epoch in the upper 32 bits.
    attempt INTEGER NOT NULL,
    -- An encoded sweep.v1.Evidence.
    evidence BLOB NOT NULL,
    seconds REAL NOT NULL,
    cpu_seconds REAL NOT NULL,
    peak_memory INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX results_task ON results (task);

-- One row per commit that recorded results: a link over all results so far.
-- SHA-256 of (link before, task, SHA-256 of evidence), result by result.
CREATE TABLE links (
    last_result INTEGER PRIMARY KEY,
    link BLOB NOT NULL,
    committed_at INTEGER NOT NULL
) STRICT;

-- Results with other bits than the recorded one.
CREATE TABLE conflicts (
    task BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    worker INTEGER NOT NULL,
    evidence BLOB NOT NULL,
    found_at INTEGER NOT NULL,
    PRIMARY KEY (task, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE failures (
    sweep INTEGER NOT NULL,
    task BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    position INTEGER NOT NULL,
    baseline INTEGER NOT NULL,
    worker INTEGER NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    failed_at INTEGER NOT NULL,
    PRIMARY KEY (sweep, task, attempt)
) STRICT, WITHOUT ROWID;

-- Tasks that are not tried again in a sweep.
CREATE TABLE set_aside (
    sweep INTEGER NOT NULL,
    task BLOB NOT NULL,
    PRIMARY KEY (sweep, task)
) STRICT, WITHOUT ROWID;

-- Where a task that was handed back can be continued from.
CREATE TABLE checkpoints (
    task BLOB PRIMARY KEY,
    state BLOB NOT NULL,
    evaluations INTEGER NOT NULL
) STRICT;

-- θ of runs that some sweep's summary names: little-endian 64-bit floats.
CREATE TABLE theta (
    task BLOB PRIMARY KEY,
    theta BLOB NOT NULL
) STRICT;
CREATE TABLE theta_wanted (
    task BLOB NOT NULL,
    sweep INTEGER NOT NULL,
    PRIMARY KEY (task, sweep)
) STRICT, WITHOUT ROWID;

-- Files that grids name, by the SHA-256 of their content.
CREATE TABLE blobs (
    sha256 BLOB PRIMARY KEY,
    content BLOB NOT NULL
) STRICT;
