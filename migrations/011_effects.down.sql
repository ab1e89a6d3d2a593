DROP FUNCTION effects_redrive;
DROP FUNCTION effects_settle_v1;
DROP TABLE effect_log;
DROP TABLE effects;
ALTER TABLE event_log_partitions DROP COLUMN effects_owner, DROP COLUMN effects_member;
