BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('bda7b8c39065');
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
INSERT INTO "experiments" VALUES(0,'Default','mlflow-artifacts:/0','active',1795431295914,1795431295914);
INSERT INTO "experiments" VALUES(1,'old','mlflow-artifacts:/1','active',1795431298068,1795431298068);
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
	destination_id VARCHAR(36) NOT NULL, step BIGINT DEFAULT '0' NOT NULL, 
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
INSERT INTO "latest_metrics" VALUES('score',0.4,1795431298474,4,0,'a917d2dd64934977bcc99199f32339ea');
INSERT INTO "latest_metrics" VALUES('score',1.4,1795431298686,4,0,'2af41fad7c6f42d78ad20aafa102f217');
INSERT INTO "latest_metrics" VALUES('score',2.4,1795431298904,4,0,'2df39335a5d34341a92e6d2e30ae6a27');
CREATE TABLE logged_model_metrics (
	model_id VARCHAR(36) NOT NULL, 
	metric_name VARCHAR(500) NOT NULL, 
	metric_timestamp_ms BIGINT NOT NULL, 
	metric_step BIGINT NOT NULL, 
	metric_value FLOAT, 
	experiment_id INTEGER NOT NULL, 
	run_id VARCHAR(32) NOT NULL, 
	dataset_uuid VARCHAR(36), 
	dataset_name VARCHAR(500), 
	dataset_digest VARCHAR(36), 
	CONSTRAINT logged_model_metrics_pk PRIMARY KEY (model_id, metric_name, metric_timestamp_ms, metric_step, run_id), 
	CONSTRAINT fk_logged_model_metrics_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_metrics_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE, 
	CONSTRAINT fk_logged_model_metrics_run_id FOREIGN KEY(run_id) REFERENCES runs (run_uuid) ON DELETE CASCADE
);
CREATE TABLE logged_model_params (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	param_key VARCHAR(255) NOT NULL, 
	param_value TEXT NOT NULL, 
	CONSTRAINT logged_model_params_pk PRIMARY KEY (model_id, param_key), 
	CONSTRAINT fk_logged_model_params_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_params_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE
);
CREATE TABLE logged_model_tags (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	tag_key VARCHAR(255) NOT NULL, 
	tag_value TEXT NOT NULL, 
	CONSTRAINT logged_model_tags_pk PRIMARY KEY (model_id, tag_key), 
	CONSTRAINT fk_logged_model_tags_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_tags_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE
);
CREATE TABLE logged_models (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	artifact_location VARCHAR(1000) NOT NULL, 
	creation_timestamp_ms BIGINT NOT NULL, 
	last_updated_timestamp_ms BIGINT NOT NULL, 
	status INTEGER NOT NULL, 
	lifecycle_stage VARCHAR(32), 
	model_type VARCHAR(500), 
	source_run_id VARCHAR(32), 
	status_message VARCHAR(1000), 
	CONSTRAINT logged_models_pk PRIMARY KEY (model_id), 
	CONSTRAINT logged_models_lifecycle_stage_check CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT fk_logged_models_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
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
INSERT INTO "metrics" VALUES('score',0.0,1795431298348,'a917d2dd64934977bcc99199f32339ea',0,0);
INSERT INTO "metrics" VALUES('score',0.1,1795431298377,'a917d2dd64934977bcc99199f32339ea',1,0);
INSERT INTO "metrics" VALUES('score',0.2,1795431298408,'a917d2dd64934977bcc99199f32339ea',2,0);
INSERT INTO "metrics" VALUES('score',0.3,1795431298442,'a917d2dd64934977bcc99199f32339ea',3,0);
INSERT INTO "metrics" VALUES('score',0.4,1795431298474,'a917d2dd64934977bcc99199f32339ea',4,0);
INSERT INTO "metrics" VALUES('score',1.0,1795431298580,'2af41fad7c6f42d78ad20aafa102f217',0,0);
INSERT INTO "metrics" VALUES('score',1.1,1795431298608,'2af41fad7c6f42d78ad20aafa102f217',1,0);
INSERT INTO "metrics" VALUES('score',1.2,1795431298633,'2af41fad7c6f42d78ad20aafa102f217',2,0);
INSERT INTO "metrics" VALUES('score',1.3,1795431298659,'2af41fad7c6f42d78ad20aafa102f217',3,0);
INSERT INTO "metrics" VALUES('score',1.4,1795431298686,'2af41fad7c6f42d78ad20aafa102f217',4,0);
INSERT INTO "metrics" VALUES('score',2.0,1795431298786,'2df39335a5d34341a92e6d2e30ae6a27',0,0);
INSERT INTO "metrics" VALUES('score',2.1,1795431298818,'2df39335a5d34341a92e6d2e30ae6a27',1,0);
INSERT INTO "metrics" VALUES('score',2.2,1795431298848,'2df39335a5d34341a92e6d2e30ae6a27',2,0);
INSERT INTO "metrics" VALUES('score',2.3,1795431298876,'2df39335a5d34341a92e6d2e30ae6a27',3,0);
INSERT INTO "metrics" VALUES('score',2.4,1795431298904,'2df39335a5d34341a92e6d2e30ae6a27',4,0);
CREATE TABLE "model_version_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value TEXT, 
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	CONSTRAINT model_version_tag_pk PRIMARY KEY ("key", name, version), 
	FOREIGN KEY(name, version) REFERENCES model_versions (name, version) ON UPDATE CASCADE
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
INSERT INTO "model_versions" VALUES('old',1,1795431298511,1795431298511,'',NULL,'None','mlflow-artifacts:/1/a917d2dd64934977bcc99199f32339ea/artifacts/model','a917d2dd64934977bcc99199f32339ea','READY',NULL,'','mlflow-artifacts:/1/a917d2dd64934977bcc99199f32339ea/artifacts/model');
INSERT INTO "model_versions" VALUES('old',2,1795431298723,1795431298723,'',NULL,'None','mlflow-artifacts:/1/2af41fad7c6f42d78ad20aafa102f217/artifacts/model','2af41fad7c6f42d78ad20aafa102f217','READY',NULL,'','mlflow-artifacts:/1/2af41fad7c6f42d78ad20aafa102f217/artifacts/model');
INSERT INTO "model_versions" VALUES('old',3,1795431298945,1795431298945,'',NULL,'None','mlflow-artifacts:/1/2df39335a5d34341a92e6d2e30ae6a27/artifacts/model','2df39335a5d34341a92e6d2e30ae6a27','READY',NULL,'','mlflow-artifacts:/1/2df39335a5d34341a92e6d2e30ae6a27/artifacts/model');
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "params" VALUES('number','0','a917d2dd64934977bcc99199f32339ea');
INSERT INTO "params" VALUES('number','1','2af41fad7c6f42d78ad20aafa102f217');
INSERT INTO "params" VALUES('number','2','2df39335a5d34341a92e6d2e30ae6a27');
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
INSERT INTO "registered_models" VALUES('old',1795431298119,1795431298945,'');
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
INSERT INTO "runs" VALUES('a917d2dd64934977bcc99199f32339ea','run 0','UNKNOWN','','','root','FINISHED',1795431298297,1795431298520,'','active','mlflow-artifacts:/1/a917d2dd64934977bcc99199f32339ea/artifacts',1,NULL);
INSERT INTO "runs" VALUES('2af41fad7c6f42d78ad20aafa102f217','run 1','UNKNOWN','','','root','FINISHED',1795431298546,1795431298730,'','active','mlflow-artifacts:/1/2af41fad7c6f42d78ad20aafa102f217/artifacts',1,NULL);
INSERT INTO "runs" VALUES('2df39335a5d34341a92e6d2e30ae6a27','run 2','UNKNOWN','','','root','FINISHED',1795431298749,1795431298951,'','active','mlflow-artifacts:/1/2df39335a5d34341a92e6d2e30ae6a27/artifacts',1,NULL);
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "tags" VALUES('mlflow.user','root','a917d2dd64934977bcc99199f32339ea');
INSERT INTO "tags" VALUES('mlflow.source.name','-c','a917d2dd64934977bcc99199f32339ea');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','a917d2dd64934977bcc99199f32339ea');
INSERT INTO "tags" VALUES('mlflow.runName','run 0','a917d2dd64934977bcc99199f32339ea');
INSERT INTO "tags" VALUES('kind','old','a917d2dd64934977bcc99199f32339ea');
INSERT INTO "tags" VALUES('mlflow.user','root','2af41fad7c6f42d78ad20aafa102f217');
INSERT INTO "tags" VALUES('mlflow.source.name','-c','2af41fad7c6f42d78ad20aafa102f217');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','2af41fad7c6f42d78ad20aafa102f217');
INSERT INTO "tags" VALUES('mlflow.runName','run 1','2af41fad7c6f42d78ad20aafa102f217');
INSERT INTO "tags" VALUES('kind','old','2af41fad7c6f42d78ad20aafa102f217');
INSERT INTO "tags" VALUES('mlflow.user','root','2df39335a5d34341a92e6d2e30ae6a27');
INSERT INTO "tags" VALUES('mlflow.source.name','-c','2df39335a5d34341a92e6d2e30ae6a27');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','2df39335a5d34341a92e6d2e30ae6a27');
INSERT INTO "tags" VALUES('mlflow.runName','run 2','2df39335a5d34341a92e6d2e30ae6a27');
INSERT INTO "tags" VALUES('kind','old','2df39335a5d34341a92e6d2e30ae6a27');
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
CREATE INDEX index_inputs_input_uuid ON inputs (input_uuid);
CREATE INDEX index_inputs_destination_type_destination_id_source_type ON inputs (destination_type, destination_id, source_type);
CREATE INDEX index_params_run_uuid ON params (run_uuid);
CREATE INDEX index_trace_info_experiment_id_timestamp_ms ON trace_info (experiment_id, timestamp_ms);
CREATE INDEX index_trace_tags_request_id ON trace_tags (request_id);
CREATE INDEX index_trace_request_metadata_request_id ON trace_request_metadata (request_id);
CREATE INDEX index_tags_run_uuid ON tags (run_uuid);
CREATE INDEX index_datasets_experiment_id_dataset_source_type ON datasets (experiment_id, dataset_source_type);
CREATE INDEX index_datasets_dataset_uuid ON datasets (dataset_uuid);
CREATE INDEX index_logged_model_metrics_model_id ON logged_model_metrics (model_id);
COMMIT;
