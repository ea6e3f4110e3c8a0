-- What psql's commands send is the same statement after statement. \ef and \password ask a person.
\conninfo
\encoding
\d
\d+
\d plain
\d+ plain
\d customers
\d+ customers
\d unfriendly.*
\a
\dtS+ pg_cla*
\a
\da *.mx
\dA+
\dAc btree integer
\dAf btree
\dAo btree integer_ops
\dAp btree integer_ops
\db+
\dc pg_catalog.utf8_to_*
\dC+ int4
\dconfig work_mem
\dd
\dD+
\ddp
\dE
\des+
\det
\deu
\dew
\df+
\dfS int4*
\dfn
\dF+
\dFd
\dFp
\dFt
\dg pg_mon*
\di+
\dl
\dL+
\dm
\dn+
\do
\doS ===
\dO
\dp
\dP+
\drds pg_mon*
\dRp+
\dRs
\ds
\dT+
\duS pg_read*
\dv+
\dx+
\dX
\dy
\z plain
\sf+ twice
\sv few
\sv+ few
\l template?
\lo_list
-- queries and what becomes of their results
select 1 as one \g
select id, name from plain order by id \gx
select 1 as a, 'x' as b \gset p_
\echo :p_a :p_b
select $$select $$ || i || $$ as n$$ from generate_series(1, 3) i \gexec
select id, name, now() as t, 1.5::numeric(4, 2) from plain \gdesc
select 'nosuch' from nosuch \gdesc
select v, h, c from (values ('a', 'x', 1), ('a', 'y', 2), ('b', 'x', 3)) t(v, h, c) \crosstabview
select 1 / (3 - nextval('steps')) as left \watch 0.02
\timing on
select 1;
\timing off
select 1; select 2 \; select 3;
\set SHOW_ALL_RESULTS off
select 1 \; select 2;
\set SHOW_ALL_RESULTS on
\set FETCH_COUNT 2
select id from plain order by id;
select 1/0 from plain;
\unset FETCH_COUNT
\set AUTOCOMMIT off
select 'in a transaction';
\echo :SERVER_VERSION_NUM
insert into scratch values (1, 'rolled back');
rollback;
\set AUTOCOMMIT on
\set ON_ERROR_ROLLBACK on
begin;
selec 1;
select 'still alive';
commit;
\set ON_ERROR_ROLLBACK off
-- errors
selec 1;
\errverbose
select 'é', nosuch from plain;
insert into plain values (1, 'again');
\errverbose
\set VERBOSITY verbose
select 1/0;
\set VERBOSITY sqlstate
select 1/0;
\set VERBOSITY default
\set SHOW_CONTEXT always
do $$ begin raise notice 'noticed'; perform 1/0; end $$;
\set SHOW_CONTEXT errors
\echo :ERROR :SQLSTATE :LAST_ERROR_MESSAGE :ROW_COUNT
-- COPY
\copy plain to stdout
\copy (select * from plain order by id desc) to stdout csv header
\copy scratch from stdin
10	ten
11	\N
\.
\copy scratch from stdin csv
12,"a ""b"""
x,y
\.
copy scratch from stdin;
13	thirteen
\.
copy (select * from scratch order by id) to stdout;
\copy nosuch from stdin
\copy plain to program 'wc -l'
truncate scratch;
-- large objects
begin;
select lo_from_bytea(54321, 'large');
\lo_export 54321 /dev/null
\dl
\lo_unlink 54321
commit;
\lo_unlink 54321
-- prepared statements, cursors, notifications, settings
prepare q as select name from plain where id = $1;
execute q(2);
begin;
declare c cursor for select * from plain order by id;
fetch 2 from c;
\gx
commit;
listen psql;
notify psql, 'payload';
set application_name = 'renamed';
show application_name;
\dconfig application_name
\c -
show application_name;
select current_user = session_user;
\if :p_a
\echo yes
\endif
\pset null '(null)'
table plain order by id;
\x auto
\H
select 1;
\q
