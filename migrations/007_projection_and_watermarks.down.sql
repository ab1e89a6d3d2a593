DROP TABLE projection_watermarks;
DROP TABLE workflow_projection;
