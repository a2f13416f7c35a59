-- Views over one output folder of Parquet tables, for DuckDB:
--
--     duckdb -cmd "SET VARIABLE folder = 'out'" -init views.sql
--
-- summaries, centers, coreset    the tables, all revisions of all windows
-- current                        the last revision of each window and key
-- latest                         the newest window of each key
-- centers_named, coreset_named   of the last revisions, with the coordinates by name: named['x']
-- marginals()                    what each column looks like, of the last revisions: FROM marginals()
-- events()                       what there was to tell, where any window has something: FROM events()
-- health                         a row a window and key: lag in seconds, who was missing, what the cost is worth

CREATE OR REPLACE VIEW summaries AS
  SELECT * FROM read_parquet(getvariable('folder') || '/summaries/**/*.parquet', union_by_name = true, hive_partitioning = false);

CREATE OR REPLACE VIEW centers AS
  SELECT * FROM read_parquet(getvariable('folder') || '/centers/**/*.parquet', union_by_name = true, hive_partitioning = false);

CREATE OR REPLACE VIEW coreset AS
  SELECT * FROM read_parquet(getvariable('folder') || '/coreset/**/*.parquet', union_by_name = true, hive_partitioning = false);

-- A revision without points does not stand for a window that had some.
CREATE OR REPLACE VIEW current AS
  SELECT * FROM summaries
  QUALIFY row_number() OVER (
    PARTITION BY window_start, window_end, key ORDER BY points > 0 DESC, revision DESC
  ) = 1;

CREATE OR REPLACE VIEW latest AS
  SELECT * FROM current
  QUALIFY row_number() OVER (PARTITION BY key ORDER BY window_end DESC NULLS FIRST, window_start DESC) = 1;

CREATE OR REPLACE MACRO named_coordinates(columns, coordinates) AS
  map(
    CASE
      WHEN len(columns) = len(coordinates) THEN columns
      ELSE list_transform(range(len(coordinates)), lambda i: coalesce(columns[1], 'column') || '[' || i || ']')
    END,
    coordinates
  );

CREATE OR REPLACE VIEW centers_named AS
  SELECT c.*, named_coordinates(s.columns, c.coordinates) AS named
  FROM centers c JOIN current s
    ON c.window_start IS NOT DISTINCT FROM s.window_start AND c.window_end IS NOT DISTINCT FROM s.window_end
    AND c.key = s.key AND c.revision = s.revision
  WHERE c.coordinates IS NOT NULL;

CREATE OR REPLACE VIEW coreset_named AS
  SELECT c.*, named_coordinates(s.columns, c.coordinates) AS named
  FROM coreset c JOIN current s
    ON c.window_start IS NOT DISTINCT FROM s.window_start AND c.window_end IS NOT DISTINCT FROM s.window_end
    AND c.key = s.key AND c.revision = s.revision;

CREATE OR REPLACE VIEW health AS
  SELECT
    window_start, window_end, key, revision, reason,
    epoch(decided_at - window_end) AS lag_seconds,
    coverage, stragglers, distrusted, degraded, points, cost,
    (cost_high - cost_low) / 2 / nullif(cost, 0) AS relative_half_width,
    trust
  FROM current ORDER BY window_start, key;

-- Folders of versions before 0.3 have no such table.
CREATE OR REPLACE MACRO marginals() AS TABLE
  SELECT c.*, c.refused_count / nullif(c.refused_count + c.row_count, 0) AS refused_share
  FROM read_parquet(getvariable('folder') || '/columns/**/*.parquet', union_by_name = true, hive_partitioning = false) c
  JOIN current s
    ON c.window_start IS NOT DISTINCT FROM s.window_start AND c.window_end IS NOT DISTINCT FROM s.window_end
    AND c.key = s.key AND c.revision = s.revision
  ORDER BY c.window_start, c.key, c.index;

CREATE OR REPLACE MACRO events() AS TABLE
  SELECT * FROM read_parquet(getvariable('folder') || '/events/**/*.parquet', union_by_name = true, hive_partitioning = false)
  ORDER BY window_start, key;
