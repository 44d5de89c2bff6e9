import KokoroBundle
import KokoroSayModel
import KokoroSynthesis
import SynthesisSupport
import XCTest

@MainActor
final class SpeechModelTests: XCTestCase {
    private func loaded(_ source: FakeSource, _ player: FakePlayer) async -> SpeechModel {
        let model = SpeechModel(player: player) { source }
        await model.load()
        return model
    }

    /// Lets other tasks run until something is so.
    private func until(
        _ what: String, line: UInt = #line, _ condition: () -> Bool
    ) async throws {
        for _ in 0..<2000 {
            if condition() { return }
            try await Task.sleep(nanoseconds: 1_000_000)
        }
        XCTFail("never: \(what)", line: line)
    }

    func testNothingCanBeSaidBeforeTheBundleIsOpen() async {
        let source = FakeSource([chunk(1)])
        let model = SpeechModel(player: FakePlayer()) { source }
        XCTAssertFalse(model.canPlay)
        XCTAssertEqual(model.voices, [])
        model.play()
        XCTAssertEqual(model.state, .idle)
        XCTAssertEqual(source.asked, [])
        await model.load()
        XCTAssertTrue(model.canPlay)
        XCTAssertEqual(model.voices, ["first", "second"])
        XCTAssertEqual(model.voice, "first")
    }

    func testABundleThatIsMissingIsSaidAndLookedForAgain() async throws {
        let tries = Tries()
        let source = FakeSource([chunk(1)])
        let model = SpeechModel(player: FakePlayer()) {
            if await tries.next() == 1 { throw KokoroError.bundle("no such folder; copy it") }
            return source
        }
        await model.load()
        XCTAssertEqual(model.state, .failed("bundle: no such folder; copy it"))
        XCTAssertFalse(model.isReady)
        XCTAssertFalse(model.canPlay)
        await model.load()
        XCTAssertEqual(model.state, .idle)
        XCTAssertTrue(model.canPlay)
        await model.load()
        let count = await tries.count
        XCTAssertEqual(count, 2)
    }

    func testStatesFromPlayToTheEnd() async throws {
        let (player, gate) = (FakePlayer(), Gate())
        let source = FakeSource([chunk(1), chunk(2)], gate: gate)
        let model = await loaded(source, player)
        (model.phonemes, model.voice, model.speed) = ("ab", "second", 1.5)
        model.play()
        XCTAssertEqual(model.state, .preparing)
        XCTAssertFalse(model.canPlay)
        model.play()
        XCTAssertEqual(source.asked, [.init(phonemes: "ab", voice: "second", speed: 1.5)])
        await gate.open()
        try await until("both are scheduled") { player.scheduled == [1, 2] }
        XCTAssertEqual(model.state, .speaking)
        XCTAssertEqual(model.made, 2)
        XCTAssertEqual(model.heard, 0)
        player.hear()
        XCTAssertEqual(model.heard, 1)
        XCTAssertEqual(model.state, .speaking)
        player.hear()
        try await until("the end") { model.state == .idle }
        XCTAssertEqual(model.heard, 2)
        XCTAssertEqual(player.rates, [8])
        XCTAssertTrue(model.canPlay)
    }

    func testNoMoreIsAskedForThanMayWait() async throws {
        let player = FakePlayer()
        let source = FakeSource((1...5).map { chunk(Float($0)) })
        let model = await loaded(source, player)
        model.play()
        try await until("two wait") { player.waiting == SpeechModel.mostWaiting }
        try await Task.sleep(nanoseconds: 20_000_000)
        XCTAssertEqual(source.taken, 2)
        for heard in 1...3 {
            player.hear()
            try await until("the next waits") { player.scheduled.count == 2 + heard }
        }
        XCTAssertEqual(player.scheduled, [1, 2, 3, 4, 5])
        player.hear()
        player.hear()
        try await until("the end") { model.state == .idle }
    }

    func testStopIsSilentAtOnceAndWhatComesLaterIsNotPlayed() async throws {
        let (player, gate) = (FakePlayer(), Gate())
        let model = await loaded(FakeSource([chunk(1), chunk(2)], gate: gate), player)
        model.play()
        await gate.arrival()
        model.stop()
        XCTAssertEqual(model.state, .idle)
        XCTAssertEqual(player.stops, 1)
        await gate.open()
        try await Task.sleep(nanoseconds: 20_000_000)
        XCTAssertEqual(player.scheduled, [])
        XCTAssertEqual(model.state, .idle)
    }

    func testWhatEndsAfterStopDoesNotCountForTheNext() async throws {
        let player = FakePlayer()
        let model = await loaded(FakeSource([chunk(1), chunk(2), chunk(3)]), player)
        model.play()
        try await until("two wait") { player.waiting == 2 }
        model.stop()
        model.play()
        XCTAssertEqual(model.made, 0)
        try await until("two more wait") { player.waiting == 4 }
        player.hear()
        player.hear()
        XCTAssertEqual(model.heard, 0)
        try await Task.sleep(nanoseconds: 20_000_000)
        XCTAssertEqual(player.scheduled, [1, 2, 1, 2])
        player.hear()
        try await until("the third waits") { player.scheduled == [1, 2, 1, 2, 3] }
        XCTAssertEqual(model.heard, 1)
        model.stop()
    }

    func testAnErrorIsShownBehindWhatWasMadeInFrontOfIt() async throws {
        let player = FakePlayer()
        let source = FakeSource([chunk(1), .failure(KokoroError.phonemes("'z' is one word"))])
        let model = await loaded(source, player)
        model.play()
        try await until("the first waits") { player.waiting == 1 }
        try await Task.sleep(nanoseconds: 20_000_000)
        XCTAssertEqual(model.state, .speaking)
        player.hear()
        try await until("the failure") { model.state == .failed("phonemes: 'z' is one word") }
        XCTAssertEqual(model.heard, 1)
        XCTAssertTrue(model.canPlay)
    }

    func testAPlayerThatCannotPlayIsAFailure() async throws {
        let player = FakePlayer()
        player.isDeaf = true
        let model = await loaded(FakeSource([chunk(1)]), player)
        model.play()
        try await until("the failure") {
            if case .failed = model.state { return true } else { return false }
        }
        XCTAssertEqual(model.made, 0)
        player.isDeaf = false
        model.play()
        try await until("the chunk waits") { player.waiting == 1 }
        XCTAssertEqual(model.state, .speaking)
        model.stop()
    }

    func testAnInterruptionStops() async throws {
        let player = FakePlayer()
        let model = await loaded(FakeSource([chunk(1)]), player)
        model.play()
        try await until("the chunk waits") { player.waiting == 1 }
        player.onInterruption?()
        XCTAssertEqual(model.state, .idle)
        XCTAssertEqual(player.stops, 1)
        player.onInterruption?()
        XCTAssertEqual(player.stops, 1)
    }

    func testSpeedsStayWithinTheirLimits() async {
        let model = await loaded(FakeSource([]), FakePlayer())
        for (given, expected) in [
            (0.1, 0.5), (0.5, 0.5), (1.3, 1.3), (2, 2), (9, 2), (-.infinity, 0.5), (.nan, 1),
        ] {
            model.speed = given
            XCTAssertEqual(model.speed, expected, "\(given)")
        }
    }

    func testWhiteSpaceIsNothingToSay() async {
        let model = await loaded(FakeSource([]), FakePlayer())
        for empty in ["", " ", "\n\t"] {
            model.phonemes = empty
            XCTAssertFalse(model.canPlay)
        }
        model.phonemes = " a"
        XCTAssertTrue(model.canPlay)
    }

    func testTheSynthesizerItselfSpeaks() async throws {
        let bundle = try TinyBundle()
        let player = FakePlayer()
        let url = bundle.url
        let model = SpeechModel(player: player) {
            try KokoroSynthesizer(bundle: BundleFolder(url), stages: TinyStages())
        }
        await model.load()
        XCTAssertEqual(model.voices, ["first", "second"])
        model.phonemes = "ab, ba. ab ab ab ab. a b c."
        model.play()
        for _ in 1...3 {
            try await until("a chunk waits") { player.waiting > 0 }
            player.hear()
        }
        try await until("the end") { model.state == .idle }
        XCTAssertEqual(player.scheduled.count, 3)
        XCTAssertEqual(player.rates, [24_000])
        model.phonemes = "z"
        model.play()
        try await until("the failure") {
            if case .failed(let reason) = model.state { return reason.contains("'z'") }
            return false
        }
    }
}

private actor Tries {
    private(set) var count = 0

    func next() -> Int {
        count += 1
        return count
    }
}
