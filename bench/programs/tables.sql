-- SPDX-License-Identifier: MIT
-- Inserts, an index and queries. The table size holds the number of rows.
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price INTEGER, tag TEXT);
BEGIN;
INSERT INTO item
  WITH RECURSIVE n (i, r) AS (
    SELECT 1, 12345
    UNION ALL
    SELECT i + 1, (r * 1103515245 + 12345) % 2147483648 FROM n WHERE i < (SELECT rows FROM size))
  SELECT i, printf('item %d of %x', i, r), r % 10000, 'tag' || (r / 65536 % 500) FROM n;
COMMIT;
CREATE INDEX by_tag ON item (tag, price);
SELECT count(*), sum(price), min(name), max(name) FROM item;
SELECT tag, count(*), group_concat(price) FROM
  (SELECT tag, price FROM item WHERE price < 500 ORDER BY tag, price) GROUP BY tag LIMIT 20;
UPDATE item SET name = name || ' changed' WHERE price % 3 = 0;
DELETE FROM item WHERE price % 5 = 0;
SELECT count(*), sum(length(name)) FROM item;
SELECT a.tag, count(*) FROM item a JOIN item b ON a.tag = b.tag AND a.price = b.price + 1
  GROUP BY a.tag ORDER BY 2 DESC, 1 LIMIT 10;
