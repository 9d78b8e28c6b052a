import java.util.Properties;
import java.util.Set;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The dedupe by Kafka Streams, with its Processor API: a persistent store (RocksDB) with its changelog remembers each
 * key, with the offset of its first record, and only a first record is forwarded.
 *
 * <p>At least once and everything else as it comes: one stream thread, offsets committed every 30 s. Leads stay bytes,
 * so it does less than this product, which looks at each lead and compares its content.
 *
 * <p>Arguments: broker, application id, topic in, topic out, state directory.
 */
public final class Dedupe {
    private static final String SEEN = "seen";

    public static void main(String[] args) {
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(args[2], Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
            .process(new First())
            .to(args[3], Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings(args[0], args[1], args[4]));
        // A peer that has failed must not look like one that is slow.
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR) {
                Runtime.getRuntime().halt(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    private static Properties settings(String broker, String application, String directory) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, broker);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, directory);
        return settings;
    }

    private static final class First implements ProcessorSupplier<byte[], byte[], byte[], byte[]> {
        @Override
        public Set<StoreBuilder<?>> stores() {
            return Set.of(Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore(SEEN), Serdes.ByteArray(), Serdes.Long()));
        }

        @Override
        public Processor<byte[], byte[], byte[], byte[]> get() {
            return new ContextualProcessor<>() {
                private KeyValueStore<byte[], Long> seen;

                @Override
                public void init(ProcessorContext<byte[], byte[]> context) {
                    super.init(context);
                    seen = context.getStateStore(SEEN);
                }

                @Override
                public void process(Record<byte[], byte[]> record) {
                    if (seen.putIfAbsent(record.key(), context().recordMetadata().get().offset()) == null) {
                        context().forward(record);
                    }
                }
            };
        }
    }
}
