import AVFAudio
import Foundation
import KokoroSayModel

/// Plays through the system's output, buffer behind buffer.
@MainActor
final class EnginePlayer: SpeechPlayer {
    /// Why nothing can be played.
    enum Failure: LocalizedError {
        case format(Int)
        case buffer(Int)

        var errorDescription: String? {
            switch self {
            case .format(let rate): return "the system cannot play one channel at \(rate) Hz"
            case .buffer(let count): return "there is no memory for \(count) samples of sound"
            }
        }
    }

    var onInterruption: (@MainActor @Sendable () -> Void)?

    private let engine = AVAudioEngine()
    private let node = AVAudioPlayerNode()
    private var format: AVAudioFormat?
    private var observers: [any NSObjectProtocol] = []

    /// A silent player; it lives as long as the app does.
    init() {
        engine.attach(node)
        // an engine that stopped for good: its own start can bring a change about, and goes on
        interrupted(by: .AVAudioEngineConfigurationChange, of: engine, evenIfRunning: false) { _ in
            true
        }
        #if os(iOS)
            interrupted(
                by: AVAudioSession.interruptionNotification, of: nil, evenIfRunning: true
            ) { notification in
                let type = notification.userInfo?[AVAudioSessionInterruptionTypeKey] as? UInt
                return type == AVAudioSession.InterruptionType.began.rawValue
            }
        #endif
    }

    func schedule(
        _ samples: [Float], sampleRate: Int, ended: @escaping @MainActor @Sendable () -> Void
    ) throws {
        // the session first: it may change the rate that the engine connects at
        if !engine.isRunning { try activateSession() }
        let buffer = try buffer(samples, connected(sampleRate))
        if !engine.isRunning { try engine.start() }
        // the engine calls from a thread of its own
        node.scheduleBuffer(buffer, completionCallbackType: .dataPlayedBack) { @Sendable _ in
            Task { @MainActor in ended() }
        }
        if !node.isPlaying { node.play() }
    }

    func stop() {
        node.stop()
        engine.stop()
        #if os(iOS)
            // others may go on; what cannot be undone here is no failure of the speech
            try? AVAudioSession.sharedInstance().setActive(
                false, options: .notifyOthersOnDeactivation)
        #endif
    }

    private func connected(_ sampleRate: Int) throws -> AVAudioFormat {
        if let format, format.sampleRate == Double(sampleRate) { return format }
        guard
            let format = AVAudioFormat(
                standardFormatWithSampleRate: Double(sampleRate), channels: 1)
        else { throw Failure.format(sampleRate) }
        engine.connect(node, to: engine.mainMixerNode, format: format)
        self.format = format
        return format
    }

    private func buffer(_ samples: [Float], _ format: AVAudioFormat) throws -> AVAudioPCMBuffer {
        guard
            let buffer = AVAudioPCMBuffer(
                pcmFormat: format, frameCapacity: AVAudioFrameCount(samples.count)),
            let channel = buffer.floatChannelData?[0]
        else { throw Failure.buffer(samples.count) }
        channel.update(from: samples, count: samples.count)
        buffer.frameLength = AVAudioFrameCount(samples.count)
        return buffer
    }

    private func activateSession() throws {
        #if os(iOS)
            try AVAudioSession.sharedInstance().setCategory(.playback, mode: .spokenAudio)
            try AVAudioSession.sharedInstance().setActive(true)
        #endif
    }

    private func interrupted(
        by name: Notification.Name, of object: AnyObject?, evenIfRunning: Bool,
        when counts: @escaping @Sendable (Notification) -> Bool
    ) {
        let center = NotificationCenter.default
        let observer = center.addObserver(forName: name, object: object, queue: .main) {
            [weak self] notification in
            guard counts(notification) else { return }
            MainActor.assumeIsolated {
                guard let self, evenIfRunning || !self.engine.isRunning else { return }
                self.onInterruption?()
            }
        }
        observers.append(observer)
    }
}
