DROP FUNCTION effects_redrive;
DROP FUNCTION effects_settle_v1;
DROP TABLE effect_log;
DROP TABLE effects;
