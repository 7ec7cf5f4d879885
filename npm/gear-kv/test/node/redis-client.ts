/** What the tests use of the package `redis`. */
export interface RedisClient {
  connect(): Promise<RedisClient>;
  close(): Promise<void>;
  sendCommand(args: readonly string[]): Promise<unknown>;
}
