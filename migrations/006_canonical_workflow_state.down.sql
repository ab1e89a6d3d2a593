DROP TABLE workflow_state;
