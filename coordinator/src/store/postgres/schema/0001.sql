-- The number of the schema; one row.
CREATE TABLE schema_version (
    version bigint NOT NULL
);

-- The epoch that may write; one row. Every writing transaction locks it for
-- share and compares, so a coordinator that was deposed writes nothing more.
CREATE TABLE leader (
    epoch bigint NOT NULL
);
INSERT INTO leader (epoch) VALUES (0);

-- One row per start of a coordinator on this store.
CREATE TABLE epochs (
    epoch bigint PRIMARY KEY,
    host text NOT NULL,
    pid bigint NOT NULL,
    program_version text NOT NULL,
    -- Address that workers on other machines could reach; NULL if there was none.
    listen text,
    started_at bigint NOT NULL
);

CREATE TABLE workers (
    worker bigint PRIMARY KEY,
    id bytea NOT NULL UNIQUE,
    name text NOT NULL,
    host text NOT NULL,
    program_version text NOT NULL,
    slots bigint NOT NULL,
    threads_per_slot bigint NOT NULL,
    first_seen bigint NOT NULL
);

CREATE TABLE sweeps (
    sweep bigint PRIMARY KEY,
    -- What makes it the same sweep: hash of grid and numeric level.
    id text NOT NULL UNIQUE,
    name text NOT NULL,
    grid text NOT NULL,
    -- The files that the grid names: a JSON object from paths to the SHA-256 of blobs.
    files text NOT NULL,
    state text NOT NULL,
    priority integer NOT NULL,
    numerics_version bigint NOT NULL,
    numeric_level text NOT NULL,
    created_at bigint NOT NULL
);

-- One row per recorded task, in the order of recording. The unique index on
-- the task is what makes recording happen exactly once.
CREATE TABLE results (
    result bigint PRIMARY KEY,
    task bytea NOT NULL,
    sweep bigint NOT NULL,
    position bigint NOT NULL,
    baseline boolean NOT NULL,
    worker bigint NOT NULL,
    -- Epoch in the upper 32 bits.
    attempt bigint NOT NULL,
    -- An encoded sweep.v1.Evidence.
    evidence bytea NOT NULL,
    seconds double precision NOT NULL,
    cpu_seconds double precision NOT NULL,
    peak_memory bigint NOT NULL,
    recorded_at bigint NOT NULL
);
CREATE UNIQUE INDEX results_task ON results (task);

-- One row per commit that recorded results: a link over all results so far.
-- SHA-256 of (link before, task, SHA-256 of evidence), result by result.
CREATE TABLE links (
    last_result bigint PRIMARY KEY,
    link bytea NOT NULL,
    committed_at bigint NOT NULL
);

-- Results with other bits than the recorded one.
CREATE TABLE conflicts (
    task bytea NOT NULL,
    attempt bigint NOT NULL,
    worker bigint NOT NULL,
    evidence bytea NOT NULL,
    found_at bigint NOT NULL,
    PRIMARY KEY (task, attempt)
);

CREATE TABLE failures (
    sweep bigint NOT NULL,
    task bytea NOT NULL,
    attempt bigint NOT NULL,
    position bigint NOT NULL,
    baseline boolean NOT NULL,
    worker bigint NOT NULL,
    kind text NOT NULL,
    message text NOT NULL,
    failed_at bigint NOT NULL,
    PRIMARY KEY (sweep, task, attempt)
);

-- Tasks that are not tried again in a sweep.
CREATE TABLE set_aside (
    sweep bigint NOT NULL,
    task bytea NOT NULL,
    PRIMARY KEY (sweep, task)
);

-- Where a task that was handed back can be continued from.
CREATE TABLE checkpoints (
    task bytea PRIMARY KEY,
    state bytea NOT NULL,
    evaluations bigint NOT NULL
);

-- θ of runs that some sweep's summary names: little-endian 64-bit floats.
CREATE TABLE theta (
    task bytea PRIMARY KEY,
    theta bytea NOT NULL
);
CREATE TABLE theta_wanted (
    task bytea NOT NULL,
    sweep bigint NOT NULL,
    PRIMARY KEY (task, sweep)
);

-- Files that grids name, by the SHA-256 of their content.
CREATE TABLE blobs (
    sha256 bytea PRIMARY KEY,
    content bytea NOT NULL
);
-- Numbers in random bytes do not compress; trying costs time.
ALTER TABLE theta ALTER COLUMN theta SET STORAGE EXTERNAL;
