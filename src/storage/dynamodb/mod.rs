//! DynamoDB repositories on the AWS SDK: against AWS, a compatible server, or the engine in this process.
