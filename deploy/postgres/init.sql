-- Run once, as the server's superuser. The services' login may make schemas and roles (each service's own role cannot log
-- in), and is no superuser. It has no password: pg_hba.conf lets it in by the services' certificates only.
CREATE ROLE tenure LOGIN CREATEROLE;
CREATE DATABASE tenure OWNER tenure;
