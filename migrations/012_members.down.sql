DROP TABLE event_log_members;
ALTER TABLE event_log_partitions DROP COLUMN owner_member;
