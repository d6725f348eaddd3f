BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('acf3f17fdcc7');
CREATE TABLE datasets (
	dataset_uuid VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	digest VARCHAR(36) NOT NULL, 
	dataset_source_type VARCHAR(36) NOT NULL, 
	dataset_source TEXT NOT NULL, 
	dataset_schema TEXT, 
	dataset_profile TEXT, 
	CONSTRAINT dataset_pk PRIMARY KEY (experiment_id, name, digest), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
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
INSERT INTO "experiments" VALUES(0,'Default','mlflow-artifacts:/0','active',1795431262237,1795431262237);
INSERT INTO "experiments" VALUES(1,'old','mlflow-artifacts:/1','active',1795431264158,1795431264158);
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
INSERT INTO "latest_metrics" VALUES('score',0.4,1795431264482,4,0,'178a41c1e9bd474d811244bc20ec1a67');
INSERT INTO "latest_metrics" VALUES('score',1.4,1795431264621,4,0,'b174713a4c244a9b9dcc809b4bd37b97');
INSERT INTO "latest_metrics" VALUES('score',2.4,1795431264752,4,0,'070d3679f27a4127bb3a7b5e2d6df688');
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
INSERT INTO "metrics" VALUES('score',0.0,1795431264444,'178a41c1e9bd474d811244bc20ec1a67',0,0);
INSERT INTO "metrics" VALUES('score',0.1,1795431264455,'178a41c1e9bd474d811244bc20ec1a67',1,0);
INSERT INTO "metrics" VALUES('score',0.2,1795431264466,'178a41c1e9bd474d811244bc20ec1a67',2,0);
INSERT INTO "metrics" VALUES('score',0.3,1795431264473,'178a41c1e9bd474d811244bc20ec1a67',3,0);
INSERT INTO "metrics" VALUES('score',0.4,1795431264482,'178a41c1e9bd474d811244bc20ec1a67',4,0);
INSERT INTO "metrics" VALUES('score',1.0,1795431264578,'b174713a4c244a9b9dcc809b4bd37b97',0,0);
INSERT INTO "metrics" VALUES('score',1.1,1795431264588,'b174713a4c244a9b9dcc809b4bd37b97',1,0);
INSERT INTO "metrics" VALUES('score',1.2,1795431264598,'b174713a4c244a9b9dcc809b4bd37b97',2,0);
INSERT INTO "metrics" VALUES('score',1.3,1795431264609,'b174713a4c244a9b9dcc809b4bd37b97',3,0);
INSERT INTO "metrics" VALUES('score',1.4,1795431264621,'b174713a4c244a9b9dcc809b4bd37b97',4,0);
INSERT INTO "metrics" VALUES('score',2.0,1795431264711,'070d3679f27a4127bb3a7b5e2d6df688',0,0);
INSERT INTO "metrics" VALUES('score',2.1,1795431264721,'070d3679f27a4127bb3a7b5e2d6df688',1,0);
INSERT INTO "metrics" VALUES('score',2.2,1795431264731,'070d3679f27a4127bb3a7b5e2d6df688',2,0);
INSERT INTO "metrics" VALUES('score',2.3,1795431264742,'070d3679f27a4127bb3a7b5e2d6df688',3,0);
INSERT INTO "metrics" VALUES('score',2.4,1795431264752,'070d3679f27a4127bb3a7b5e2d6df688',4,0);
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
INSERT INTO "model_versions" VALUES('old',1,1795431264520,1795431264520,'',NULL,'None','mlflow-artifacts:/1/178a41c1e9bd474d811244bc20ec1a67/artifacts/model','178a41c1e9bd474d811244bc20ec1a67','READY',NULL,'','mlflow-artifacts:/1/178a41c1e9bd474d811244bc20ec1a67/artifacts/model');
INSERT INTO "model_versions" VALUES('old',2,1795431264659,1795431264659,'',NULL,'None','mlflow-artifacts:/1/b174713a4c244a9b9dcc809b4bd37b97/artifacts/model','b174713a4c244a9b9dcc809b4bd37b97','READY',NULL,'','mlflow-artifacts:/1/b174713a4c244a9b9dcc809b4bd37b97/artifacts/model');
INSERT INTO "model_versions" VALUES('old',3,1795431264785,1795431264785,'',NULL,'None','mlflow-artifacts:/1/070d3679f27a4127bb3a7b5e2d6df688/artifacts/model','070d3679f27a4127bb3a7b5e2d6df688','READY',NULL,'','mlflow-artifacts:/1/070d3679f27a4127bb3a7b5e2d6df688/artifacts/model');
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "params" VALUES('number','0','178a41c1e9bd474d811244bc20ec1a67');
INSERT INTO "params" VALUES('number','1','b174713a4c244a9b9dcc809b4bd37b97');
INSERT INTO "params" VALUES('number','2','070d3679f27a4127bb3a7b5e2d6df688');
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
INSERT INTO "registered_models" VALUES('old',1795431264195,1795431264785,'');
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
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
INSERT INTO "runs" VALUES('178a41c1e9bd474d811244bc20ec1a67','run 0','UNKNOWN','','','root','FINISHED',1795431264406,1795431264528,'','active','mlflow-artifacts:/1/178a41c1e9bd474d811244bc20ec1a67/artifacts',1,NULL);
INSERT INTO "runs" VALUES('b174713a4c244a9b9dcc809b4bd37b97','run 1','UNKNOWN','','','root','FINISHED',1795431264544,1795431264667,'','active','mlflow-artifacts:/1/b174713a4c244a9b9dcc809b4bd37b97/artifacts',1,NULL);
INSERT INTO "runs" VALUES('070d3679f27a4127bb3a7b5e2d6df688','run 2','UNKNOWN','','','root','FINISHED',1795431264680,1795431264792,'','active','mlflow-artifacts:/1/070d3679f27a4127bb3a7b5e2d6df688/artifacts',1,NULL);
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "tags" VALUES('mlflow.user','root','178a41c1e9bd474d811244bc20ec1a67');
INSERT INTO "tags" VALUES('mlflow.source.name','-c','178a41c1e9bd474d811244bc20ec1a67');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','178a41c1e9bd474d811244bc20ec1a67');
INSERT INTO "tags" VALUES('mlflow.runName','run 0','178a41c1e9bd474d811244bc20ec1a67');
INSERT INTO "tags" VALUES('kind','old','178a41c1e9bd474d811244bc20ec1a67');
INSERT INTO "tags" VALUES('mlflow.user','root','b174713a4c244a9b9dcc809b4bd37b97');
INSERT INTO "tags" VALUES('mlflow.source.name','-c','b174713a4c244a9b9dcc809b4bd37b97');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','b174713a4c244a9b9dcc809b4bd37b97');
INSERT INTO "tags" VALUES('mlflow.runName','run 1','b174713a4c244a9b9dcc809b4bd37b97');
INSERT INTO "tags" VALUES('kind','old','b174713a4c244a9b9dcc809b4bd37b97');
INSERT INTO "tags" VALUES('mlflow.user','root','070d3679f27a4127bb3a7b5e2d6df688');
INSERT INTO "tags" VALUES('mlflow.source.name','-c','070d3679f27a4127bb3a7b5e2d6df688');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','070d3679f27a4127bb3a7b5e2d6df688');
INSERT INTO "tags" VALUES('mlflow.runName','run 2','070d3679f27a4127bb3a7b5e2d6df688');
INSERT INTO "tags" VALUES('kind','old','070d3679f27a4127bb3a7b5e2d6df688');
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
CREATE INDEX index_latest_metrics_run_uuid ON latest_metrics (run_uuid);
CREATE INDEX index_tags_run_uuid ON tags (run_uuid);
CREATE INDEX index_datasets_dataset_uuid ON datasets (dataset_uuid);
CREATE INDEX index_datasets_experiment_id_dataset_source_type ON datasets (experiment_id, dataset_source_type);
CREATE INDEX index_inputs_destination_type_destination_id_source_type ON inputs (destination_type, destination_id, source_type);
CREATE INDEX index_inputs_input_uuid ON inputs (input_uuid);
CREATE INDEX index_params_run_uuid ON params (run_uuid);
COMMIT;
