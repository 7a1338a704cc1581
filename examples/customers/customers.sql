-- The table that the job writes to.
CREATE TABLE customers (
  id     BIGINT        NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name   VARCHAR(100)  NOT NULL,
  city   VARCHAR(100),
  credit DECIMAL(10,2) NOT NULL
);
