import Foundation
import KokoroBundle
import KokoroSynthesis
import Observation

/// What the example's window shows and does; it knows no view.
@MainActor
@Observable
public final class SpeechModel {
    /// What goes on.
    public enum State: Sendable, Equatable {
        /// Nothing; `play` begins.
        case idle
        /// The bundle is being opened, or the first sound computed.
        case preparing
        /// Something is heard.
        case speaking
        /// The last thing that was asked for failed, for this reason.
        case failed(String)
    }

    /// Speeds that can be chosen.
    nonisolated public static let speeds: ClosedRange<Double> = 0.5...2

    /// Chunks that may wait to be heard; more are not asked for.
    nonisolated public static let mostWaiting = 2

    /// What goes on.
    public private(set) var state = State.idle
    /// Names of the voices; none before the bundle is open.
    public private(set) var voices: [String] = []
    /// Seconds of speech that were made since `play`.
    public private(set) var made = 0.0
    /// Seconds of speech that were heard since `play`.
    public private(set) var heard = 0.0
    /// What to say, in the bundle's phonemes.
    public var phonemes = ExampleSentence.all[0].phonemes
    /// Who says it: one of `voices`.
    public var voice = ""
    /// 1 is the voice's own pace, 2 twice as fast. What is out of `speeds` becomes the nearest in
    /// it, and what is no number 1.
    public var speed: Double {
        get { chosenSpeed }
        set {
            let limits = Self.speeds
            chosenSpeed =
                newValue.isNaN ? 1 : min(max(newValue, limits.lowerBound), limits.upperBound)
        }
    }

    private var chosenSpeed = 1.0
    private var source: (any SpeechSource)?
    private let open: @Sendable () async throws -> any SpeechSource
    private let player: any SpeechPlayer
    private var task: Task<Void, Never>?
    private var waiting = 0
    private var waiter: CheckedContinuation<Void, Never>?
    // what ends after `stop` belongs to an earlier turn
    private var turn = 0

    /// A model that can say nothing before `load`.
    ///
    /// - Parameters:
    ///   - player: plays what is said.
    ///   - open: opens the bundle.
    public init(
        player: any SpeechPlayer, open: @escaping @Sendable () async throws -> any SpeechSource
    ) {
        self.player = player
        self.open = open
        player.onInterruption = { [weak self] in self?.stop() }
    }

    /// Whether the bundle is open.
    public var isReady: Bool { source != nil }

    /// Whether something is being prepared or heard, which `stop` ends.
    public var isBusy: Bool { state == .preparing || state == .speaking }

    /// Whether `play` would do something.
    public var canPlay: Bool {
        isReady && !isBusy && phonemes.contains { !$0.isWhitespace }
    }

    /// Opens the bundle; a failure is shown as `state`, and another call tries again.
    public func load() async {
        guard !isReady, !isBusy else { return }
        state = .preparing
        do {
            let opened = try await open()
            source = opened
            voices = opened.voices
            voice = voices.first ?? ""
            state = .idle
        } catch {
            state = .failed(Self.reason(error))
        }
    }

    /// Says the phonemes; does nothing unless `canPlay`.
    public func play() {
        guard canPlay, let source else { return }
        turn += 1
        (made, heard, waiting) = (0, 0, 0)
        state = .preparing
        let stream = source.stream(
            phonemes: phonemes, voice: voice.isEmpty ? nil : voice, speed: speed)
        task = Task { [turn] in await say(stream, turn) }
    }

    /// Is silent at once and gives up what is being computed; does nothing while the bundle is
    /// opened.
    public func stop() {
        guard isBusy, isReady else { return }
        turn += 1
        task?.cancel()
        task = nil
        player.stop()
        resume()
        state = .idle
    }

    private func say(_ stream: AsyncThrowingStream<SpeechChunk, any Error>, _ own: Int) async {
        do {
            for try await chunk in stream {
                guard own == turn else { return }
                try schedule(chunk, own)
                await room(below: Self.mostWaiting, own)
                guard own == turn else { return }
            }
            await finish(.idle, own)
        } catch {
            await finish(.failed(Self.reason(error)), own)
        }
    }

    private func schedule(_ chunk: SpeechChunk, _ own: Int) throws {
        try player.schedule(chunk.samples, sampleRate: chunk.sampleRate) { [weak self] in
            self?.ended(chunk.seconds, own)
        }
        waiting += 1
        made += chunk.seconds
        state = .speaking
    }

    /// What was scheduled is heard to its end, also where the next part failed.
    private func finish(_ end: State, _ own: Int) async {
        await room(below: 1, own)
        guard own == turn else { return }
        task = nil
        state = end
    }

    private func ended(_ seconds: Double, _ own: Int) {
        guard own == turn else { return }
        waiting -= 1
        heard += seconds
        resume()
    }

    /// Waits until fewer chunks wait to be heard.
    private func room(below count: Int, _ own: Int) async {
        while own == turn, waiting >= count {
            await withCheckedContinuation { waiter = $0 }
        }
    }

    private func resume() {
        waiter?.resume()
        waiter = nil
    }

    private static func reason(_ error: any Error) -> String {
        guard let error = error as? KokoroError else { return error.localizedDescription }
        return "\(error.title): \(error.message)"
    }
}
