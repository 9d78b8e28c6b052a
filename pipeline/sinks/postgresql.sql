-- The tables of the PostgreSQL CRM, version 1. In the first schema of the search path of whoever connects.

CREATE TABLE contact (
    tenant      text        NOT NULL,
    address     text        NOT NULL, -- the normalised email, else the normalised phone number
    first_seen  timestamptz NOT NULL, -- by the broker's clock
    last_seen   timestamptz NOT NULL,
    submissions bigint      NOT NULL, -- rows in lead
    name        text,                 -- as the last lead that has one says
    company     text,
    PRIMARY KEY (tenant, address)
);

-- No foreign key: one statement writes both tables, and checking each lead once more took a fifth of the speed.
CREATE TABLE lead (
    id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- what the CRM calls it
    tenant           text        NOT NULL,
    message_id       text        NOT NULL,
    contact          text        NOT NULL, -- the address of the contact whose lead it is
    email            text,
    phone            text,
    name             text,
    company          text,
    source           text,
    campaign         text,
    captured_at      timestamptz,          -- by the clock of the sender
    fields           json        NOT NULL, -- an object, to the letter as it was captured
    source_partition integer     NOT NULL, -- where the lead stands in lead-accepted
    source_offset    bigint      NOT NULL,
    written_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT lead_name UNIQUE (tenant, message_id)
);

-- How far each consumer group has come: moved in the transaction of the rows, and only there.
CREATE TABLE stream_offset (
    consumer_group text    NOT NULL,
    topic          text    NOT NULL,
    partition      integer NOT NULL,
    next_offset    bigint  NOT NULL,
    log_id         text    NOT NULL, -- of the topic
    last_offset    bigint,           -- the record before next_offset, to know its log again
    last_time_ms   bigint,
    last_key       bytea,
    PRIMARY KEY (consumer_group, topic, partition)
);
