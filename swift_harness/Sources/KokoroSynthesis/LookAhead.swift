import KokoroBundle
import KokoroSignal

/// Says a text part by part, one part ahead of whoever takes them.
actor LookAhead {
    private typealias Step = (part: SpokenPart?, rest: PartQueue)

    private let start: @Sendable () throws -> PartQueue
    private let sampleRate: Int
    private let samplesPerFrame: Int
    private var pending: Task<Step, any Error>?
    private var spoken = 0.0
    private var state = State.waiting

    private enum State { case waiting, reading, done }

    /// Says nothing before the first chunk is asked for, when `start` splits the text.
    init(
        sampleRate: Int, samplesPerFrame: Int, _ start: @escaping @Sendable () throws -> PartQueue
    ) {
        self.sampleRate = sampleRate
        self.samplesPerFrame = samplesPerFrame
        self.start = start
    }

    deinit { pending?.cancel() }

    /// The next chunk, nil behind the last and behind an error. The one behind it is begun before
    /// this returns.
    ///
    /// - Throws: what `PartQueue` throws; `KokoroError.argument` if two tasks read at once;
    ///   `CancellationError` if the task was cancelled, which ends the work.
    func next() async throws -> SpeechChunk? {
        switch state {
        case .done: return nil
        case .reading: throw KokoroError.argument("a stream can be read by one task at a time")
        case .waiting: state = .reading
        }
        do {
            let chunk = try await take()
            state = chunk == nil ? .done : .waiting
            return chunk
        } catch {
            state = .done
            throw error
        }
    }

    private func take() async throws -> SpeechChunk? {
        let task = try pending ?? Self.step(start())
        pending = task
        let (part, rest) = try await withTaskCancellationHandler {
            try await task.value
        } onCancel: {
            task.cancel()
        }
        guard let part else { return nil }
        let chunk = try chunk(part)
        pending = Self.step(rest)
        return chunk
    }

    private static func step(_ queue: PartQueue) -> Task<Step, any Error> {
        Task {
            var rest = queue
            let part = try await rest.next()
            return (part, rest)
        }
    }

    private func chunk(_ part: SpokenPart) throws -> SpeechChunk {
        let start = spoken
        spoken += Double(part.samples.count) / Double(sampleRate)
        let marks = try Timestamp.marks(
            phonemes: part.phonemes, durations: part.durations,
            secondsPerFrame: Double(samplesPerFrame) / Double(sampleRate))
        return SpeechChunk(
            part: part, sampleRate: sampleRate, start: start,
            timestamps: marks.map { $0.shifted(by: start) })
    }
}
