BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0584bdc529eb');
CREATE TABLE "datasets" (
	dataset_uuid VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	digest VARCHAR(36) NOT NULL, 
	dataset_source_type VARCHAR(36) NOT NULL, 
	dataset_source TEXT NOT NULL, 
	dataset_schema TEXT, 
	dataset_profile TEXT, 
	CONSTRAINT dataset_pk PRIMARY KEY (experiment_id, name, digest), 
	CONSTRAINT fk_datasets_experiment_id_experiments FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
CREATE TABLE experiment_tags (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	experiment_id INTEGER NOT NULL, 
	CONSTRAINT experiment_tag_pk PRIMARY KEY ("key", experiment_id), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
CREATE TABLE experiments (
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	artifact_location VARCHAR(256), 
	lifecycle_stage VARCHAR(32), creation_time BIGINT, last_update_time BIGINT, 
	CONSTRAINT experiment_pk PRIMARY KEY (experiment_id), 
	CONSTRAINT experiments_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	UNIQUE (name)
);
INSERT INTO "experiments" VALUES(0,'Default','mlflow-artifacts:/0','active',1795431280117,1795431280117);
INSERT INTO "experiments" VALUES(1,'old','mlflow-artifacts:/1','active',1795431283578,1795431283578);
CREATE TABLE input_tags (
	input_uuid VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	value VARCHAR(500) NOT NULL, 
	CONSTRAINT input_tags_pk PRIMARY KEY (input_uuid, name)
);
CREATE TABLE inputs (
	input_uuid VARCHAR(36) NOT NULL, 
	source_type VARCHAR(36) NOT NULL, 
	source_id VARCHAR(36) NOT NULL, 
	destination_type VARCHAR(36) NOT NULL, 
	destination_id VARCHAR(36) NOT NULL, 
	CONSTRAINT inputs_pk PRIMARY KEY (source_type, source_id, destination_type, destination_id)
);
CREATE TABLE "latest_metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT, 
	step BIGINT NOT NULL, 
	is_nan BOOLEAN NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT latest_metric_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
INSERT INTO "latest_metrics" VALUES('score',0.4,1795431283915,4,0,'3bf49f7a7d074fe594eb27ce4fb972f1');
INSERT INTO "latest_metrics" VALUES('score',1.4,1795431284072,4,0,'556b9a2ad1784ea5bd42abf024f63b8e');
INSERT INTO "latest_metrics" VALUES('score',2.4,1795431284224,4,0,'8f2f42ad52d04027b701f07310b8af0d');
CREATE TABLE "metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	step BIGINT DEFAULT '0' NOT NULL, 
	is_nan BOOLEAN DEFAULT '0' NOT NULL, 
	CONSTRAINT metric_pk PRIMARY KEY ("key", timestamp, step, run_uuid, value, is_nan), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
INSERT INTO "metrics" VALUES('score',0.0,1795431283866,'3bf49f7a7d074fe594eb27ce4fb972f1',0,0);
INSERT INTO "metrics" VALUES('score',0.1,1795431283879,'3bf49f7a7d074fe594eb27ce4fb972f1',1,0);
INSERT INTO "metrics" VALUES('score',0.2,1795431283892,'3bf49f7a7d074fe594eb27ce4fb972f1',2,0);
INSERT INTO "metrics" VALUES('score',0.3,1795431283902,'3bf49f7a7d074fe594eb27ce4fb972f1',3,0);
INSERT INTO "metrics" VALUES('score',0.4,1795431283915,'3bf49f7a7d074fe594eb27ce4fb972f1',4,0);
INSERT INTO "metrics" VALUES('score',1.0,1795431284028,'556b9a2ad1784ea5bd42abf024f63b8e',0,0);
INSERT INTO "metrics" VALUES('score',1.1,1795431284038,'556b9a2ad1784ea5bd42abf024f63b8e',1,0);
INSERT INTO "metrics" VALUES('score',1.2,1795431284050,'556b9a2ad1784ea5bd42abf024f63b8e',2,0);
INSERT INTO "metrics" VALUES('score',1.3,1795431284062,'556b9a2ad1784ea5bd42abf024f63b8e',3,0);
INSERT INTO "metrics" VALUES('score',1.4,1795431284072,'556b9a2ad1784ea5bd42abf024f63b8e',4,0);
INSERT INTO "metrics" VALUES('score',2.0,1795431284175,'8f2f42ad52d04027b701f07310b8af0d',0,0);
INSERT INTO "metrics" VALUES('score',2.1,1795431284186,'8f2f42ad52d04027b701f07310b8af0d',1,0);
INSERT INTO "metrics" VALUES('score',2.2,1795431284203,'8f2f42ad52d04027b701f07310b8af0d',2,0);
INSERT INTO "metrics" VALUES('score',2.3,1795431284213,'8f2f42ad52d04027b701f07310b8af0d',3,0);
INSERT INTO "metrics" VALUES('score',2.4,1795431284224,'8f2f42ad52d04027b701f07310b8af0d',4,0);
CREATE TABLE model_version_tags (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	CONSTRAINT model_version_tag_pk PRIMARY KEY ("key", name, version), 
	FOREIGN KEY(name, version) REFERENCES model_versions (name, version) ON UPDATE cascade
);
CREATE TABLE "model_versions" (
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	user_id VARCHAR(256), 
	current_stage VARCHAR(20), 
	source VARCHAR(500), 
	run_id VARCHAR(32), 
	status VARCHAR(20), 
	status_message VARCHAR(500), 
	run_link VARCHAR(500), storage_location VARCHAR(500), 
	CONSTRAINT model_version_pk PRIMARY KEY (name, version), 
	FOREIGN KEY(name) REFERENCES registered_models (name) ON UPDATE CASCADE
);
INSERT INTO "model_versions" VALUES('old',1,1795431283952,1795431283952,'',NULL,'None','mlflow-artifacts:/1/3bf49f7a7d074fe594eb27ce4fb972f1/artifacts/model','3bf49f7a7d074fe594eb27ce4fb972f1','READY',NULL,'','mlflow-artifacts:/1/3bf49f7a7d074fe594eb27ce4fb972f1/artifacts/model');
INSERT INTO "model_versions" VALUES('old',2,1795431284106,1795431284106,'',NULL,'None','mlflow-artifacts:/1/556b9a2ad1784ea5bd42abf024f63b8e/artifacts/model','556b9a2ad1784ea5bd42abf024f63b8e','READY',NULL,'','mlflow-artifacts:/1/556b9a2ad1784ea5bd42abf024f63b8e/artifacts/model');
INSERT INTO "model_versions" VALUES('old',3,1795431284262,1795431284262,'',NULL,'None','mlflow-artifacts:/1/8f2f42ad52d04027b701f07310b8af0d/artifacts/model','8f2f42ad52d04027b701f07310b8af0d','READY',NULL,'','mlflow-artifacts:/1/8f2f42ad52d04027b701f07310b8af0d/artifacts/model');
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "params" VALUES('number','0','3bf49f7a7d074fe594eb27ce4fb972f1');
INSERT INTO "params" VALUES('number','1','556b9a2ad1784ea5bd42abf024f63b8e');
INSERT INTO "params" VALUES('number','2','8f2f42ad52d04027b701f07310b8af0d');
CREATE TABLE registered_model_aliases (
	alias VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	CONSTRAINT registered_model_alias_pk PRIMARY KEY (name, alias), 
	CONSTRAINT registered_model_alias_name_fkey FOREIGN KEY(name) REFERENCES registered_models (name) ON DELETE cascade ON UPDATE cascade
);
INSERT INTO "registered_model_aliases" VALUES('champion',3,'old');
CREATE TABLE registered_model_tags (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	name VARCHAR(256) NOT NULL, 
	CONSTRAINT registered_model_tag_pk PRIMARY KEY ("key", name), 
	FOREIGN KEY(name) REFERENCES registered_models (name) ON UPDATE cascade
);
CREATE TABLE registered_models (
	name VARCHAR(256) NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	CONSTRAINT registered_model_pk PRIMARY KEY (name), 
	UNIQUE (name)
);
INSERT INTO "registered_models" VALUES('old',1795431283617,1795431284262,'');
CREATE TABLE "runs" (
	run_uuid VARCHAR(32) NOT NULL, 
	name VARCHAR(250), 
	source_type VARCHAR(20), 
	source_name VARCHAR(500), 
	entry_point_name VARCHAR(50), 
	user_id VARCHAR(256), 
	status VARCHAR(9), 
	start_time BIGINT, 
	end_time BIGINT, 
	source_version VARCHAR(50), 
	lifecycle_stage VARCHAR(20), 
	artifact_uri VARCHAR(200), 
	experiment_id INTEGER, deleted_time BIGINT, 
	CONSTRAINT run_pk PRIMARY KEY (run_uuid), 
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
INSERT INTO "runs" VALUES('3bf49f7a7d074fe594eb27ce4fb972f1','run 0','UNKNOWN','','','root','FINISHED',1795431283822,1795431283963,'','active','mlflow-artifacts:/1/3bf49f7a7d074fe594eb27ce4fb972f1/artifacts',1,NULL);
INSERT INTO "runs" VALUES('556b9a2ad1784ea5bd42abf024f63b8e','run 1','UNKNOWN','','','root','FINISHED',1795431283992,1795431284114,'','active','mlflow-artifacts:/1/556b9a2ad1784ea5bd42abf024f63b8e/artifacts',1,NULL);
INSERT INTO "runs" VALUES('8f2f42ad52d04027b701f07310b8af0d','run 2','UNKNOWN','','','root','FINISHED',1795431284143,1795431284271,'','active','mlflow-artifacts:/1/8f2f42ad52d04027b701f07310b8af0d/artifacts',1,NULL);
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "tags" VALUES('mlflow.user','root','3bf49f7a7d074fe594eb27ce4fb972f1');
INSERT INTO "tags" VALUES('mlflow.source.name','-c','3bf49f7a7d074fe594eb27ce4fb972f1');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','3bf49f7a7d074fe594eb27ce4fb972f1');
INSERT INTO "tags" VALUES('mlflow.runName','run 0','3bf49f7a7d074fe594eb27ce4fb972f1');
INSERT INTO "tags" VALUES('kind','old','3bf49f7a7d074fe594eb27ce4fb972f1');
INSERT INTO "tags" VALUES('mlflow.user','root','556b9a2ad1784ea5bd42abf024f63b8e');
INSERT INTO "tags" VALUES('mlflow.source.name','-c','556b9a2ad1784ea5bd42abf024f63b8e');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','556b9a2ad1784ea5bd42abf024f63b8e');
INSERT INTO "tags" VALUES('mlflow.runName','run 1','556b9a2ad1784ea5bd42abf024f63b8e');
INSERT INTO "tags" VALUES('kind','old','556b9a2ad1784ea5bd42abf024f63b8e');
INSERT INTO "tags" VALUES('mlflow.user','root','8f2f42ad52d04027b701f07310b8af0d');
INSERT INTO "tags" VALUES('mlflow.source.name','-c','8f2f42ad52d04027b701f07310b8af0d');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','8f2f42ad52d04027b701f07310b8af0d');
INSERT INTO "tags" VALUES('mlflow.runName','run 2','8f2f42ad52d04027b701f07310b8af0d');
INSERT INTO "tags" VALUES('kind','old','8f2f42ad52d04027b701f07310b8af0d');
CREATE TABLE trace_info (
	request_id VARCHAR(50) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	timestamp_ms BIGINT NOT NULL, 
	execution_time_ms BIGINT, 
	status VARCHAR(50) NOT NULL, 
	CONSTRAINT trace_info_pk PRIMARY KEY (request_id), 
	CONSTRAINT fk_trace_info_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
CREATE TABLE "trace_request_metadata" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	request_id VARCHAR(50) NOT NULL, 
	CONSTRAINT trace_request_metadata_pk PRIMARY KEY ("key", request_id), 
	CONSTRAINT fk_trace_request_metadata_request_id FOREIGN KEY(request_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE "trace_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	request_id VARCHAR(50) NOT NULL, 
	CONSTRAINT trace_tag_pk PRIMARY KEY ("key", request_id), 
	CONSTRAINT fk_trace_tags_request_id FOREIGN KEY(request_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
CREATE INDEX index_latest_metrics_run_uuid ON latest_metrics (run_uuid);
CREATE INDEX index_inputs_destination_type_destination_id_source_type ON inputs (destination_type, destination_id, source_type);
CREATE INDEX index_inputs_input_uuid ON inputs (input_uuid);
CREATE INDEX index_params_run_uuid ON params (run_uuid);
CREATE INDEX index_trace_info_experiment_id_timestamp_ms ON trace_info (experiment_id, timestamp_ms);
CREATE INDEX index_trace_tags_request_id ON trace_tags (request_id);
CREATE INDEX index_trace_request_metadata_request_id ON trace_request_metadata (request_id);
CREATE INDEX index_tags_run_uuid ON tags (run_uuid);
CREATE INDEX index_datasets_experiment_id_dataset_source_type ON datasets (experiment_id, dataset_source_type);
CREATE INDEX index_datasets_dataset_uuid ON datasets (dataset_uuid);
COMMIT;
